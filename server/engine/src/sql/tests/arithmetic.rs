//! The rules of arithmetic, by running them: plan, one epoch, the rows that come out.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array, ListArray, RecordBatch,
    StringArray, StructArray,
};
use arrow::datatypes::{DataType, Field, Int32Type};
use proptest::prelude::*;

use super::run::{at_once_and_one_by_one, epoch, features, records, select};
use super::{events, plan};
use crate::epoch::{Output, Reason};

fn ints(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn floats(values: &[f64]) -> ArrayRef {
    Arc::new(Float64Array::from(values.to_vec()))
}

fn strings(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn decimals(values: &[i128], precision: u8, scale: i8) -> ArrayRef {
    Arc::new(Decimal128Array::from(values.to_vec()).with_precision_and_scale(precision, scale).unwrap())
}

/// The one row of the one window.
fn row(list: &str, rows: &RecordBatch) -> String {
    let lines = features(&select(list, rows));
    assert_eq!(lines.len(), 1, "{list}: {lines:?}");
    lines[0].clone()
}

fn rejected(output: &Output) -> Vec<(i64, Reason)> {
    output.rejected.iter().map(|r| (r.record.offset, r.reason)).collect()
}

#[test]
fn a_ratio_of_integers_is_a_ratio() {
    let rows = records(&[("clicks", ints(&[1])), ("impressions", Arc::new(Int32Array::from(vec![20])))]);
    assert_eq!(row("SUM(clicks) / NULLIF(SUM(impressions), 0) AS ctr", &rows), "0.05");
    assert_eq!(row("7 / 2 AS a, 8 / 2 * COUNT(*) AS b, -7 / 2 AS c", &rows), "3.5 | 4.0 | -3.5");
    assert_eq!(row("MAX(clicks / impressions) AS a", &rows), "0.05", "before the aggregate too");
}

#[test]
fn division_by_zero_is_null() {
    let rows =
        records(&[("clicks", ints(&[0])), ("price", floats(&[-0.0])), ("amount", decimals(&[0], 10, 2))]);
    assert_eq!(
        row("1 / SUM(clicks) AS a, 1.5 / MAX(price) AS b, 1.5 / MAX(amount) AS c", &rows),
        "NULL | NULL | NULL"
    );
    assert_eq!(
        row("1 % SUM(clicks) AS a, 1.5 % MAX(price) AS b, 1.5 % MAX(amount) AS c", &rows),
        "NULL | NULL | NULL"
    );
    assert_eq!(row("COUNT(1 / clicks) AS a, COUNT(5 % clicks) AS b, COUNT(*) AS n", &rows), "0 | 0 | 1");
    assert_eq!(row("1 / 0 AS a, 1 % 0 AS b, 1.0 / 0.0 AS c", &rows), "NULL | NULL | NULL", "constants too");
}

#[test]
fn overflow_before_the_aggregate_quarantines_the_record() {
    let rows = records(&[("clicks", ints(&[1, i64::MAX, 2, i64::MIN]))]);
    for (list, bad, rest) in [
        ("SUM(clicks + 1) AS s", vec![1], "-9223372036854775802"),
        ("SUM(clicks - 1) AS s", vec![3], "9223372036854775807"),
        ("SUM(clicks * 2) AS s", vec![1, 3], "6"),
        ("MAX(-clicks) AS s", vec![3], "-1"),
    ] {
        let output = select(list, &rows);
        let expected: Vec<_> = bad.iter().map(|offset| (*offset, Reason::Expression)).collect();
        assert_eq!(rejected(&output), expected, "{list}");
        assert_eq!(features(&output), [rest], "{list}");
        assert_eq!(output.counts[0].applied + output.counts[0].quarantined, 4, "{list}");
    }
    let narrow = records(&[("impressions", Arc::new(Int32Array::from(vec![i32::MAX, 1])))]);
    assert_eq!(rejected(&select("SUM(impressions + impressions) AS s", &narrow)), [(0, Reason::Expression)]);
}

#[test]
fn overflow_after_the_aggregate_is_null_and_counted() {
    let rows = records(&[("clicks", ints(&[i64::MAX]))]);
    let output =
        select("SUM(clicks) + 1 AS a, SUM(clicks) * 2 AS b, SUM(clicks) AS c, -SUM(clicks) AS d", &rows);
    assert_eq!(features(&output), ["NULL | NULL | 9223372036854775807 | -9223372036854775807"]);
    assert_eq!((output.nulled, output.rejected.len()), (2, 0));
}

#[test]
fn a_sum_that_does_not_fit_is_null_and_never_wraps() {
    let sum = |values: &[i64]| row("SUM(clicks) AS s", &records(&[("clicks", ints(values))]));
    assert_eq!(sum(&[i64::MAX, 1]), "NULL");
    assert_eq!(sum(&[i64::MIN, -1]), "NULL");
    assert_eq!(sum(&[i64::MAX, i64::MAX, i64::MIN, i64::MIN, 5]), "3", "what lies between does not count");
    let wide = |values: &[i128]| row("SUM(wide) AS s", &records(&[("wide", decimals(values, 38, 0))]));
    let most = 10_i128.pow(38) - 1;
    assert_eq!(wide(&[most, 1]), "NULL");
    assert_eq!(wide(&[most, most, -most, -most, 7]), "7");
    let product = |value: i128, list: &str| {
        let output = select(list, &records(&[("wide", decimals(&[value], 38, 0))]));
        (features(&output).first().cloned(), output.rejected.len())
    };
    let (large, fits) = (12_i128 * 10_i128.pow(18), 10_i128.pow(18));
    // 1.44e38 fits 128 bits, not 38 digits.
    assert_eq!(product(large, "SUM(wide) * SUM(wide) AS p"), (Some("NULL".to_owned()), 0));
    assert_eq!(product(fits, "SUM(wide) * SUM(wide) AS p"), (Some((fits * fits).to_string()), 0));
    assert_eq!(product(large, "MAX(wide * wide) AS p"), (None, 1));
    let none = records(&[("clicks", Arc::new(Int64Array::from(vec![None::<i64>])))]);
    assert_eq!(row("SUM(clicks) AS s, SUM(impressions) AS i, COUNT(clicks) AS n", &none), "NULL | NULL | 0");
}

#[test]
fn a_failing_cast_fails_its_record_before_and_its_value_after() {
    let rows = records(&[("user_id", strings(&["1", "x", "3"]))]);
    let output = select("SUM(CAST(user_id AS BIGINT)) AS s", &rows);
    assert_eq!((features(&output), rejected(&output)), (vec!["4".to_owned()], vec![(1, Reason::Expression)]));
    let output =
        select("CAST(MAX(user_id) AS BIGINT) AS a, COUNT(*) AS n, TRY_CAST(MIN(user_id) AS INT) AS t", &rows);
    assert_eq!((features(&output), output.nulled), (vec!["NULL | 3 | 1".to_owned()], 1));
}

#[test]
fn a_guard_protects_what_it_guards() {
    let rows = records(&[
        ("user_id", strings(&["1", "x", "3"])),
        ("ok", Arc::new(BooleanArray::from(vec![true, false, true]))),
    ]);
    let window = "FROM TUMBLE(events, DESCRIPTOR(timestamp), INTERVAL '1' DAY)";
    for sql in [
        format!("SELECT COUNT(*) AS n {window} WHERE ok AND CAST(user_id AS INT) > 1 GROUP BY window_end"),
        format!(
            "SELECT COUNT(*) FILTER (WHERE ok AND CAST(user_id AS INT) > 1) AS n {window} GROUP BY window_end"
        ),
        format!(
            "SELECT COUNT(CASE WHEN ok THEN NULLIF(CAST(user_id AS INT), 1) END) AS n {window} GROUP BY window_end"
        ),
    ] {
        let output = epoch(&sql, &events(), &rows);
        assert_eq!((features(&output), output.rejected.len()), (vec!["1".to_owned()], 0), "{sql}");
    }
}

#[test]
fn averages() {
    let rows = records(&[("clicks", ints(&[1, 2])), ("amount", decimals(&[100, 101], 10, 2))]);
    assert_eq!(row("AVG(clicks) AS a, AVG(amount) AS b", &rows), "1.5 | 1.005000");
    let most = 10_i128.pow(38) - 1;
    let wide = records(&[("wide", decimals(&[most, most], 38, 0))]);
    assert_eq!(row("AVG(wide) AS a, COUNT(*) AS n", &wide), "NULL | 2", "four more digits do not fit");
    let wide = records(&[("wide", decimals(&[10_i128.pow(33), 10_i128.pow(33) + 1], 38, 0))]);
    assert_eq!(row("AVG(wide) AS a", &wide), "1000000000000000000000000000000000.5000");
    let negative = records(&[("amount", decimals(&[-100, -100, 0], 10, 2))]);
    assert_eq!(row("AVG(amount) AS a, AVG(price) AS none", &negative), "-0.666667 | NULL");
    let thirds = records(&[("amount", decimals(&[100, 100, 0], 10, 2))]);
    assert_eq!(row("AVG(amount) AS a", &thirds), "0.666667", "rounded half away from zero");
}

#[test]
fn distinct_values_of_every_type() {
    let count = |column: &str, values: ArrayRef| {
        let list = format!("COUNT(DISTINCT {column}) AS n");
        row(&list, &records(&[(column, values)]))
    };
    assert_eq!(count("clicks", ints(&[1, 2, 1])), "2");
    assert_eq!(count("user_id", strings(&["a", "b", "a", ""])), "3");
    assert_eq!(count("kind", strings(&["a", "b", "a"])), "2");
    assert_eq!(count("price", floats(&[0.0, -0.0, f64::NAN, -f64::NAN, 1.0])), "3");
    assert_eq!(count("amount", decimals(&[1, 1, 2], 10, 2)), "2");
    assert_eq!(count("ok", Arc::new(BooleanArray::from(vec![Some(true), None, Some(true)]))), "1");
    let cities = StructArray::from(vec![(
        Arc::new(Field::new("City", DataType::Utf8, true)),
        strings(&["a", "b", "a"]),
    )]);
    assert_eq!(count("place", Arc::new(cities)), "2");
    let tags = ListArray::from_iter_primitive::<Int32Type, _, _>([
        Some([Some(1), None]),
        None,
        Some([Some(1), None]),
    ]);
    assert_eq!(count("tags", Arc::new(tags)), "1");
}

#[test]
fn outputs_are_of_types_at_rest() {
    let sql = "SELECT user_id, COUNT(*) AS n, COUNT(DISTINCT kind) AS d, CAST(COUNT(*) AS BIGINT UNSIGNED) AS u, \
        CAST(SUM(clicks) AS TINYINT) AS t, MAX(kind) AS k, CASE WHEN COUNT(*) > 0 THEN MIN(kind) END AS c, \
        arrow_cast(MAX(user_id), 'Utf8View') AS v, arrow_cast(MAX(user_id), 'LargeUtf8') AS l, \
        arrow_cast(MAX(seen), 'Timestamp(Second, None)') AS s, to_timestamp(MAX(clicks)) AS z \
        FROM TUMBLE(events, DESCRIPTOR(timestamp), INTERVAL '1' DAY) GROUP BY user_id, window_end";
    let query = plan(sql, &[events()]).unwrap();
    let types: Vec<String> =
        query.output.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect();
    assert_eq!(
        types,
        [
            "user_id Utf8",
            "n Int64",
            "d Int64",
            "u Int64",
            "t Int32",
            "k Utf8",
            "c Utf8",
            "v Utf8",
            "l Utf8",
            "s Timestamp(µs)",
            "z Timestamp(µs, \"UTC\")"
        ]
    );
    let nullable: Vec<bool> = query.output.fields().iter().map(|f| f.is_nullable()).collect();
    assert!(!nullable[0] && nullable[1..].iter().all(|n| *n), "a key is never null, the rest may fail");
    let rows = records(&[("kind", strings(&["a", "b"])), ("clicks", ints(&[100, 27]))]);
    let output = epoch(sql, &events(), &rows);
    assert_eq!(features(&output), ["u | 2 | 2 | 2 | 127 | b | a | u | u | NULL | 1970-01-01T00:01:40Z"]);
}

#[test]
fn saved_and_merged_is_what_was_never_saved() {
    let most = 10_i128.pow(38) - 1;
    let rows = records(&[
        ("user_id", strings(&["a", "b", "a", "a", "b"])),
        ("clicks", ints(&[i64::MAX, 1, i64::MAX, i64::MIN, 1])),
        ("kind", strings(&["x", "y", "x", "z", "y"])),
        ("price", floats(&[0.0, 2.5, -0.0, f64::NAN, 2.5])),
        ("wide", decimals(&[most, 1, most, -most, 2], 38, 0)),
    ]);
    let sql = "SELECT user_id, SUM(clicks) AS s, AVG(clicks) AS a, SUM(wide) AS w, AVG(wide) AS m, MIN(kind) AS k, \
        COUNT(DISTINCT kind) AS kinds, COUNT(DISTINCT price) AS prices, COUNT(DISTINCT clicks) FILTER (WHERE clicks > 0) \
        AS big, COUNT(*) AS n FROM TUMBLE(events, DESCRIPTOR(timestamp), INTERVAL '1' DAY) GROUP BY user_id, window_end";
    let (at_once, one_by_one) = at_once_and_one_by_one(sql, &rows);
    assert_eq!(at_once, one_by_one);
    let nines = "9".repeat(38);
    assert_eq!(at_once.len(), 2);
    assert!(at_once[0].starts_with("a | 9223372036854775806 | "), "{at_once:?}");
    assert!(at_once[0].ends_with(&format!(" | {nines} | NULL | x | 2 | 2 | 1 | 3")), "{at_once:?}");
    assert_eq!(at_once[1], "b | 2 | 1.0 | 3 | 1.5000 | y | 1 | 1 | 1 | 2");
}

proptest! {
    /// Over integers that often overflow: what comes out is the exact value or NULL, and what is applied
    /// and what is quarantined adds up.
    #[test]
    fn integers_are_exact_or_null(
        values in proptest::collection::vec(
            prop_oneof![Just(i64::MAX), Just(i64::MIN), Just(0), -5_i64..5, any::<i64>()], 1..20
        ),
        factor in -3_i64..4,
    ) {
        let exact = |values: &mut dyn Iterator<Item = i64>| {
            let total: i128 = values.map(i128::from).sum();
            i64::try_from(total).map_or("NULL".to_owned(), |total| total.to_string())
        };
        let rows = records(&[("clicks", ints(&values))]);
        prop_assert_eq!(row("SUM(clicks) AS s", &rows), exact(&mut values.iter().copied()));

        let output = select(&format!("SUM(clicks * {factor}) AS s"), &rows);
        let fits: Vec<i64> = values.iter().filter_map(|v| v.checked_mul(factor)).collect();
        prop_assert_eq!(output.rejected.len(), values.len() - fits.len());
        let expected: Vec<String> = if fits.is_empty() { vec![] } else { vec![exact(&mut fits.into_iter())] };
        prop_assert_eq!(features(&output), expected);
    }
}
