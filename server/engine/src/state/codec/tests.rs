#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Decimal128Array, DictionaryArray, FixedSizeListArray,
    Float64Array, Int64Array, ListArray, NullArray, StringArray, StringViewArray, StructArray,
    TimestampMicrosecondArray, UInt64Array,
};
use arrow::datatypes::{Fields, Int32Type, Int64Type};
use proptest::prelude::*;

use super::*;

fn plain(arrays: &[ArrayRef]) -> Vec<Column> {
    arrays.iter().map(|a| Column::plain(a.data_type().clone())).collect()
}

fn values(columns: &[Column], arrays: &[ArrayRef]) -> Vec<Vec<u8>> {
    let rows = arrays.first().map_or(0, |a| a.len());
    let encoded = encode(columns.iter().zip(arrays), rows).unwrap();
    assert_eq!(encoded.len(), rows);
    (0..rows).map(|row| encoded.value(row).to_vec()).collect()
}

fn assert_round_trip(arrays: &[ArrayRef]) {
    let columns = plain(arrays);
    let bytes = values(&columns, arrays);
    let back = decode(&columns, bytes.iter().map(Vec::as_slice)).unwrap();
    for (array, back) in arrays.iter().zip(&back) {
        assert_eq!(array.data_type(), back.data_type());
        assert_eq!(array.to_data(), back.to_data());
    }
}

/// These bytes are in the stores of every release.
#[test]
fn golden_bytes() {
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![Some(-2), None])),
        Arc::new(Float64Array::from(vec![1.5, 0.0])),
        Arc::new(StringArray::from(vec![Some("añ"), Some("")])),
        Arc::new(BooleanArray::from(vec![Some(true), None])),
        Arc::new(Decimal128Array::from(vec![258_i128, -1])),
        Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([
            Some(vec![Some(3), None]),
            Some(Vec::new()),
        ])),
    ];
    let bytes = values(&plain(&arrays), &arrays);
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let first = [
        "01",
        "01feffffffffffffff",
        "01000000000000f83f",
        "010300000061c3b1",
        "0101",
        "0102010000000000000000000000000000",
        "010200000001030000000000000000",
    ];
    let second = [
        "01",
        "00",
        "010000000000000000",
        "0100000000",
        "00",
        "01ffffffffffffffffffffffffffffffff",
        "0100000000",
    ];
    assert_eq!(hex(&bytes[0]), first.concat());
    assert_eq!(hex(&bytes[1]), second.concat());
}

#[test]
fn sets_are_written_sorted() {
    let lists = |a: &[i64], b: &[i64]| -> ArrayRef {
        Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(
            [a, b].map(|l| Some(l.iter().map(|v| Some(*v)).collect::<Vec<_>>())),
        ))
    };
    let set = |array: &ArrayRef| {
        values(&[Column { data_type: array.data_type().clone(), set: true }], std::slice::from_ref(array))
    };
    assert_eq!(set(&lists(&[3, 1, 2], &[9])), set(&lists(&[1, 2, 3], &[9])));
    assert_ne!(set(&lists(&[3, 1, 2], &[9])), set(&lists(&[1, 2, 4], &[9])));
}

#[test]
fn nested_and_packed_types_come_back() {
    let fields =
        Fields::from(vec![Field::new("n", DataType::UInt64, true), Field::new("s", DataType::Utf8, true)]);
    let structs: ArrayRef = Arc::new(StructArray::new(
        fields.clone(),
        vec![
            Arc::new(UInt64Array::from(vec![Some(u64::MAX), None, Some(0)])),
            Arc::new(StringArray::from(vec![None, Some("x"), Some("y")])),
        ],
        Some(vec![true, true, false].into()),
    ));
    let list: ArrayRef = Arc::new(ListArray::new(
        Arc::new(Field::new("item", DataType::Struct(fields), true)),
        arrow::buffer::OffsetBuffer::from_lengths([2, 0, 1]),
        structs.clone(),
        None,
    ));
    let pairs: ArrayRef = Arc::new(FixedSizeListArray::from_iter_primitive::<Int64Type, _, _>(
        [Some(vec![Some(1), None]), None, Some(vec![Some(3), Some(4)])],
        2,
    ));
    let packed: ArrayRef = Arc::new(["a", "b", "a"].into_iter().collect::<DictionaryArray<Int32Type>>());
    let view: ArrayRef =
        Arc::new(StringViewArray::from(vec![Some("long enough to leave the view"), None, Some("s")]));
    let zoned: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![-1, 0, 1]).with_timezone("UTC"));
    let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![Some(&b"\0\xff"[..]), None, Some(b"")]));
    assert_round_trip(&[structs, list, pairs, view, zoned, bytes, Arc::new(NullArray::new(3))]);
    // A dictionary's codes are not part of the state: its values are.
    let column = [Column::plain(packed.data_type().clone())];
    let back =
        decode(&column, values(&column, std::slice::from_ref(&packed)).iter().map(Vec::as_slice)).unwrap();
    let text = |a: &ArrayRef| arrow::compute::cast(a, &DataType::Utf8).unwrap();
    assert_eq!(back[0].data_type(), packed.data_type());
    assert_eq!(&text(&back[0]), &text(&packed));
}

#[test]
fn sliced_columns_are_read_from_where_they_start() {
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3), Some(4)]));
    let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([
        Some(vec![Some(1), Some(2)]),
        Some(vec![Some(3)]),
        None,
        Some(vec![Some(4), Some(5)]),
    ]));
    assert_round_trip(&[numbers.slice(1, 3), lists.slice(1, 3)]);
}

#[test]
fn what_was_not_written_by_this_codec_is_refused() {
    let columns = [Column::plain(DataType::Int64), Column::plain(DataType::Utf8)];
    let arrays: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from(vec![7])), Arc::new(StringArray::from(vec!["é"]))];
    let good = values(&columns, &arrays).remove(0);
    let read = |bytes: &[u8]| decode(&columns, [bytes]);
    assert!(read(&good).is_ok());
    for end in 0..good.len() {
        assert!(matches!(read(&good[..end]), Err(Error::Truncated)), "cut at {end}");
    }
    let changed = |at: usize, to: u8| {
        let mut bytes = good.clone();
        bytes[at] = to;
        bytes
    };
    assert!(matches!(read(&changed(0, 2)), Err(Error::Version(2))));
    assert!(matches!(read(&changed(1, 9)), Err(Error::Marker(9))));
    assert!(matches!(read(&changed(good.len() - 1, 0xff)), Err(Error::Arrow(_))), "not UTF-8");
    assert!(matches!(read(&[good.clone(), vec![0]].concat()), Err(Error::Trailing(1))));
    // A length beyond the value allocates nothing.
    assert!(matches!(read(&changed(14, 0xff)), Err(Error::Truncated)));
}

proptest! {
    #[test]
    fn any_row_comes_back(
        rows in prop::collection::vec(
            (
                any::<Option<i64>>(), any::<Option<bool>>(), any::<Option<String>>(),
                any::<Option<i128>>(), any::<Option<u64>>(),
                any::<Option<Vec<Option<i64>>>>(),
            ),
            1..40,
        ),
    ) {
        let floats = rows.iter().map(|r| r.4.map(f64::from_bits));
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(rows.iter().map(|r| r.0).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|r| r.1).collect::<BooleanArray>()),
            Arc::new(rows.iter().map(|r| r.2.clone()).collect::<StringArray>()),
            Arc::new(rows.iter().map(|r| r.3).collect::<Decimal128Array>()),
            Arc::new(floats.collect::<Float64Array>()),
            Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(rows.iter().map(|r| r.5.clone()))),
        ];
        let columns = plain(&arrays);
        let bytes = values(&columns, &arrays);
        let back = decode(&columns, bytes.iter().map(Vec::as_slice)).unwrap();
        // Compared as bytes: NaNs have payloads, and they too must come back bit for bit.
        prop_assert_eq!(values(&columns, &back), bytes);
        prop_assert_eq!(&back[0].to_data(), &arrays[0].to_data());
        prop_assert_eq!(&back[2].to_data(), &arrays[2].to_data());
        prop_assert_eq!(&back[5].to_data(), &arrays[5].to_data());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let list = DataType::new_list(DataType::Utf8, true);
        let columns = [Column::plain(list), Column::plain(DataType::Boolean)];
        let _ = decode(&columns, [bytes.as_slice()]);
        let versioned = [&[VERSION][..], &bytes].concat();
        if let Ok(arrays) = decode(&columns, [versioned.as_slice()]) {
            prop_assert_eq!(&values(&columns, &arrays)[0], &versioned);
        }
    }
}
