//! Bytes that are not what they say. A bad body is named and rolled back; its neighbours stay.

use super::value::{Plain, rows};
use super::*;

const FIELDS: &str = r#"
    {"name":"s","type":"string"},
    {"name":"n","type":["null","long"]},
    {"name":"e","type":{"type":"enum","name":"C","symbols":["A","B"]}},
    {"name":"d","type":{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}},
    {"name":"l","type":{"type":"array","items":{"type":"record","name":"I","fields":[
        {"name":"k","type":"string"},{"name":"m","type":{"type":"map","values":["null","double"]}}]}}},
    {"name":"b","type":"boolean"},
    {"name":"t","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"i","type":"int"}"#;

/// The parts of a good body, so that a test can spoil one of them.
fn parts() -> Vec<Vec<u8>> {
    let map =
        [&long(2)[..], &bytes(b"x"), &long(0), &bytes(b"y"), &long(1), &1.5_f64.to_le_bytes(), &long(0)]
            .concat();
    let list = [&long(2)[..], &bytes(b"one"), &map, &bytes(b"two"), &long(0), &long(0)].concat();
    vec![
        bytes("é".as_bytes()),
        [long(1), long(-5)].concat(),
        long(1),
        bytes(&[4, 210]),
        list,
        vec![1],
        long(77),
        long(-3),
    ]
}

fn spoil(part: usize, with: Vec<u8>) -> Vec<u8> {
    let mut parts = parts();
    parts[part] = with;
    parts.concat()
}

/// Pushes good, bad, good: the error, and two equal rows left.
fn between_neighbours(bad: &[u8]) -> (String, &'static str) {
    let reader = reader(FIELDS);
    let columns = all(&reader);
    let resolution = Resolution::compile(&record(FIELDS), &reader, &columns).unwrap();
    let mut decoder = Decoder::new(&reader, &columns);
    let good = parts().concat();
    decoder.push(&resolution, &good).unwrap();
    let error = decoder.push(&resolution, bad).unwrap_err();
    assert_eq!(decoder.len(), 1);
    decoder.push(&resolution, &good).unwrap();
    assert!(decoder.push(&resolution, bad).is_err());
    let got = rows(&decoder.finish());
    assert_eq!(got.len(), 2);
    assert_eq!(got[0], got[1]);
    assert_eq!(got[0], rows(&decode(&reader, &record(FIELDS), &[&good]))[0]);
    (error.field.clone(), error.reason())
}

#[test]
fn a_body_is_bad_whatever_columns_are_read() {
    let reader = reader(FIELDS);
    // Only the boolean is read: each of these spoils a column that is passed over.
    let columns = [5];
    let resolution = Resolution::compile(&record(FIELDS), &reader, &columns).unwrap();
    let mut decoder = Decoder::new(&reader, &columns);
    decoder.push(&resolution, &parts().concat()).unwrap();
    for (part, with, reason) in [
        (0, bytes(&[0xff, 0xfe]), "bad_utf8"),
        (2, long(2), "unknown_symbol"),
        (4, [&long(1)[..], &bytes(&[0xff]), &long(0), &long(0)].concat(), "bad_utf8"),
        (7, long(1 << 31), "bad_number"),
    ] {
        let error = decoder.push(&resolution, &spoil(part, with)).unwrap_err();
        assert_eq!(error.reason(), reason, "part {part}");
    }
    assert_eq!(decoder.len(), 1);
}

#[test]
fn every_strict_prefix_fails_alone() {
    let good = parts().concat();
    for len in 0..good.len() {
        between_neighbours(&good[..len]);
    }
}

#[test]
fn every_flipped_bit_is_a_row_or_an_error_and_never_more() {
    let reader = reader(FIELDS);
    let columns = all(&reader);
    let resolution = Resolution::compile(&record(FIELDS), &reader, &columns).unwrap();
    let good = parts().concat();
    let expected = rows(&decode(&reader, &record(FIELDS), &[&good])).remove(0);
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let mut decoder = Decoder::new(&reader, &columns);
        decoder.push(&resolution, &good).unwrap();
        let read = decoder.push(&resolution, &bad).is_ok();
        decoder.push(&resolution, &good).unwrap();
        let got = rows(&decoder.finish());
        assert_eq!(got.len(), 2 + usize::from(read));
        assert_eq!((&got[0], got.last().unwrap()), (&expected, &expected));
    }
}

#[test]
fn each_fault_is_named_with_its_field() {
    let mut trailing = parts().concat();
    trailing.push(0);
    let eleven = vec![0xff; 11];
    let deep = [&long(1)[..], &bytes(b"k"), &long(1), &bytes(b"x"), &long(2)].concat();
    for (body, field, reason) in [
        (trailing, "", "trailing_bytes"),
        (spoil(0, bytes(&[0xff, 0xfe])), "s", "bad_utf8"),
        (spoil(0, long(-1)), "s", "bad_length"),
        (spoil(0, long(i64::MAX)), "s", "truncated"),
        (spoil(0, eleven.clone()), "s", "bad_number"),
        (spoil(1, long(-1)), "n", "bad_union_branch"),
        (spoil(1, long(2)), "n", "bad_union_branch"),
        (spoil(2, long(2)), "e", "unknown_symbol"),
        (spoil(2, long(-1)), "e", "unknown_symbol"),
        (spoil(3, bytes(&[0x27, 0x10])), "d", "decimal_too_wide"),
        (spoil(3, bytes(&[1; 17])), "d", "decimal_too_wide"),
        (spoil(3, bytes(&[[0xff; 1].as_slice(), &[0x7f; 16]].concat())), "d", "decimal_too_wide"),
        (spoil(4, long(1 << 40)), "l", "bad_length"),
        (spoil(4, long(i64::MIN)), "l", "bad_length"),
        (spoil(4, [long(-1), long(1 << 40)].concat()), "l", "bad_length"),
        (spoil(4, [long(-1), long(-1)].concat()), "l", "bad_length"),
        (spoil(4, deep), "l.m", "bad_union_branch"),
        (spoil(5, vec![2]), "b", "bad_boolean"),
        (spoil(6, long(i64::MAX)), "t", "time_out_of_range"),
        (spoil(7, long(i64::from(i32::MAX) + 1)), "i", "bad_number"),
        (spoil(7, eleven), "i", "bad_number"),
        (spoil(7, vec![]), "i", "truncated"),
    ] {
        assert_eq!(between_neighbours(&body), (field.to_owned(), reason), "{body:?}");
    }
}

#[test]
fn a_body_beyond_16_mib_is_refused_and_one_of_16_mib_is_not() {
    let fields = r#"{"name":"b","type":"bytes"}"#;
    let reader = reader(fields);
    let resolution = Resolution::compile(&record(fields), &reader, &[0]).unwrap();
    let mut decoder = Decoder::new(&reader, &[0]);
    let body = bytes(&vec![7; crate::avro::MAX_BODY - 4]);
    assert_eq!(body.len(), crate::avro::MAX_BODY);
    decoder.push(&resolution, &body).unwrap();
    let body = bytes(&vec![7; crate::avro::MAX_BODY - 3]);
    assert_eq!(decoder.push(&resolution, &body).unwrap_err().reason(), "too_large");
    assert_eq!(decoder.finish().num_rows(), 1);
}

#[test]
fn a_full_batch_says_so_and_loses_nothing() {
    let fields = r#"{"name":"b","type":"bytes"}"#;
    let reader = reader(fields);
    let resolution = Resolution::compile(&record(fields), &reader, &[0]).unwrap();
    let mut decoder = Decoder::new(&reader, &[0]);
    let body = bytes(&vec![7; 15 << 20]);
    let mut pushed = 0;
    let error = loop {
        match decoder.push(&resolution, &body) {
            Ok(()) => pushed += 1,
            Err(error) => break error,
        }
    };
    assert!(error.is_full());
    assert_eq!(pushed, 256 / 15);
    assert_eq!(decoder.finish().num_rows(), pushed);
    decoder.push(&resolution, &body).unwrap();
    assert_eq!(decoder.finish().num_rows(), 1);
}

#[test]
fn items_of_no_bytes_cannot_be_counted_without_end() {
    let reader = reader(r#"{"name":"a","type":"int"}"#);
    let writer = record(r#"{"name":"x","type":{"type":"array","items":"null"}},{"name":"a","type":"int"}"#);
    let resolution = Resolution::compile(&writer, &reader, &[0]).unwrap();
    let mut decoder = Decoder::new(&reader, &[0]);
    let few = [long(1000), long(0), long(5)].concat();
    decoder.push(&resolution, &few).unwrap();
    let many = [long(1 << 50), long(0), long(5)].concat();
    assert_eq!(decoder.push(&resolution, &many).unwrap_err().reason(), "bad_length");
    assert_eq!(rows(&decoder.finish()), [Plain::Record(vec![Plain::Number(5)])]);
}

#[test]
fn recursive_writers_are_skipped_to_a_depth() {
    let reader = reader(r#"{"name":"a","type":"int"}"#);
    let writer = record(
        r#"{"name":"tree","type":{"type":"record","name":"T","fields":[
            {"name":"next","type":["null","T"]}]}},{"name":"a","type":"int"}"#,
    );
    let resolution = Resolution::compile(&writer, &reader, &[0]).unwrap();
    let mut decoder = Decoder::new(&reader, &[0]);
    let nested = |depth: usize| [vec![2; depth], long(0), long(5)].concat();
    decoder.push(&resolution, &nested(10)).unwrap();
    assert_eq!(decoder.push(&resolution, &nested(100_000)).unwrap_err().reason(), "too_deep");
    assert_eq!(decoder.len(), 1);
}

#[test]
fn a_resolution_for_other_columns_is_refused() {
    let reader = reader(FIELDS);
    let resolution = Resolution::compile(&record(FIELDS), &reader, &[0]).unwrap();
    let mut decoder = Decoder::new(&reader, &[1]);
    assert_eq!(decoder.push(&resolution, &parts().concat()).unwrap_err().reason(), "resolution_mismatch");
}
