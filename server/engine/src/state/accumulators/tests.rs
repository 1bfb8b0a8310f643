//! Of every aggregate that a query may use: being saved changes nothing.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, StringArray,
};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use proptest::prelude::*;

use super::*;
use crate::query::Shape;
use crate::sql::{self, Table};
use crate::state::codec;

const TYPES: [(&str, DataType); 5] = [
    ("long", DataType::Int64),
    ("double", DataType::Float64),
    ("amount", DataType::Decimal128(10, 2)),
    ("word", DataType::Utf8),
    ("day", DataType::Date32),
];

/// Aggregates of every type.
const ANY: [&str; 20] = [
    "COUNT(?)",
    "MIN(?)",
    "MAX(?)",
    "COUNT(DISTINCT ?)",
    "approx_distinct(?)",
    "first_value(?)",
    "last_value(? ORDER BY long DESC NULLS LAST, word)",
    "last_value(? IGNORE NULLS)",
    "nth_value(?, 2)",
    "nth_value(?, -2)",
    "first_k(?, 2 ORDER BY day)",
    "last_k(?, 3)",
    "last_k(DISTINCT ?, 2)",
    "top_k(?, 2)",
    "bottom_k(DISTINCT ?, 2)",
    "collect_set(?, 3)",
    "bounded_unique_count(?, 3)",
    "array_agg(? LIMIT 3)",
    "array_agg(? ORDER BY double NULLS FIRST LIMIT 3)",
    "array_agg(DISTINCT ? ORDER BY ? DESC LIMIT 3)",
];
/// Those of numbers.
const NUMBERS: [&str; 18] = [
    "SUM(?)",
    "AVG(?)",
    "SUM(DISTINCT ?)",
    "AVG(DISTINCT ?)",
    "var_pop(?)",
    "var(?)",
    "stddev_pop(?)",
    "stddev(?)",
    "covar_pop(?, double)",
    "covar_samp(?, long)",
    "corr(?, double)",
    "regr_slope(?, long)",
    "regr_count(?, double)",
    "median(?)",
    "percentile_cont(0.3) WITHIN GROUP (ORDER BY ? DESC)",
    "approx_median(?)",
    "approx_percentile_cont(?, 0.9)",
    "approx_percentile_cont_with_weight(?, abs(double), 0.5)",
];
/// Those of whole numbers.
const LONGS: [&str; 5] = ["bit_and(?)", "bit_or(?)", "bit_xor(?)", "bool_and(? > 0)", "bool_or(? > 0)"];
/// Those of texts.
const WORDS: [&str; 2] = ["string_agg(?, '-' LIMIT 3)", "string_agg(DISTINCT ?, '' LIMIT 2)"];

/// All functions over all types that they take.
static FUNCTIONS: LazyLock<Vec<Function>> = LazyLock::new(|| {
    let functions: Vec<Function> =
        TYPES.iter().flat_map(|(name, data_type)| of_type(name, data_type)).collect();
    // Those that are the same thing are computed once.
    assert!(functions.len() > 250, "{}", functions.len());
    functions
});

/// The functions over one column, planned.
fn of_type(name: &str, data_type: &DataType) -> Vec<Function> {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let mut fields = vec![Field::new("ts", time, false)];
    fields.extend(TYPES.map(|(name, data_type)| Field::new(name, data_type, true)));
    let numbers = NUMBERS.iter().filter(|_| data_type.is_numeric());
    let longs = LONGS.iter().filter(|_| name == "long");
    let words = WORDS.iter().filter(|_| name == "word");
    let calls = ANY.iter().chain(numbers).chain(longs).chain(words).map(|call| call.replace('?', name));
    let mut list = vec!["COUNT(*) AS n".to_owned()];
    for call in calls {
        list.push(format!("{call} AS a{}", list.len()));
        list.push(format!("{call} FILTER (WHERE long > 0) AS a{}", list.len()));
    }
    let sql = format!(
        "SELECT {} FROM TUMBLE(events, DESCRIPTOR(ts), INTERVAL '1' DAY) GROUP BY window_end",
        list.join(", ")
    );
    let table = Table { name: "events", schema: Arc::new(Schema::new(fields)), event_time: "ts" };
    let query = sql::plan(&sql, &[table]).unwrap_or_else(|e| panic!("{sql}\n{e:?}"));
    let Shape::Windowed(windowed) = &query.shape else { unreachable!("a window was asked for") };
    windowed.aggregate.functions.iter().map(|f| Function::new(f).unwrap()).collect()
}

/// Long, double, amount, word, day of one event.
type Values = (Option<i64>, Option<f64>, Option<i128>, Option<&'static str>, Option<i32>);

fn values() -> impl Strategy<Value = Values> {
    let special = prop::sample::select(vec![0.0, -0.0, 0.1, 1e300, -1e300, f64::MAX, f64::INFINITY]);
    let more = prop::sample::select(vec![f64::NEG_INFINITY, f64::NAN, -f64::NAN, f64::from_bits(1)]);
    (
        prop::option::of(prop_oneof![any::<i64>(), -3_i64..3]),
        prop::option::of(prop_oneof![4 => special, 1 => more, 4 => any::<f64>()]),
        prop::option::of(-9_999_999_999_i128..9_999_999_999),
        prop::option::of(prop::sample::select(vec!["", "a", "b\0", "a longer word than fits in a view"])),
        prop::option::of(any::<i32>()),
    )
}

/// A batch of events, each with its group; groups that are new come in order, as an interner has it. Its
/// number says where in the log it stands.
type Batch = Vec<(usize, Values)>;

fn batches() -> impl Strategy<Value = Vec<Batch>> {
    prop::collection::vec(prop::collection::vec((0_usize..8, values()), 1..20), 1..5).prop_map(
        |mut batches| {
            let mut known = 0;
            for (group, _) in batches.iter_mut().flatten() {
                *group = (*group).min(known);
                known = known.max(*group + 1);
            }
            batches
        },
    )
}

/// Takes a batch in, and tells how many groups there are.
fn update(
    accumulators: &mut Accumulators,
    functions: &[Function],
    (number, batch): (usize, &Batch),
    known: usize,
) -> usize {
    // Times go up and down, and many events share one.
    let offsets = || (0..batch.len() as i64).map(|row| number as i64 * 100 + row);
    let standing: [ArrayRef; 3] = [
        Arc::new(Int64Array::from_iter_values(offsets().map(|offset| offset * 7 % 5))),
        Arc::new(Int64Array::from_iter_values(offsets().map(|offset| offset % 2))),
        Arc::new(Int64Array::from_iter_values(offsets())),
    ];
    let column = |name: &str| -> ArrayRef {
        let rows = batch.iter().map(|(_, v)| v);
        match name {
            "long" => Arc::new(rows.map(|v| v.0).collect::<Int64Array>()),
            "double" => Arc::new(rows.map(|v| v.1).collect::<Float64Array>()),
            "amount" => {
                let amounts: Decimal128Array = rows.map(|v| v.2).collect();
                Arc::new(amounts.with_precision_and_scale(10, 2).unwrap())
            }
            "word" => Arc::new(rows.map(|v| v.3).collect::<StringArray>()),
            _ => Arc::new(rows.map(|v| v.4).collect::<Date32Array>()),
        }
    };
    let groups: Vec<usize> = batch.iter().map(|(g, _)| *g).collect();
    let total = groups.iter().map(|g| g + 1).max().unwrap_or(0).max(known);
    let positive: BooleanArray = batch.iter().map(|(_, v)| Some(v.0.is_some_and(|l| l > 0))).collect();
    let schema = Schema::new(TYPES.map(|(name, data_type)| Field::new(name, data_type, true)).to_vec());
    let rows = arrow::array::RecordBatch::try_new(
        Arc::new(schema),
        TYPES.iter().map(|(name, _)| column(name)).collect(),
    )
    .unwrap();
    for (index, function) in functions.iter().enumerate() {
        let mut arguments: Vec<ArrayRef> = function
            .arguments
            .iter()
            .map(|a| {
                // The event time comes first in the query's input, and is not among these columns.
                let a =
                    datafusion::physical_expr::utils::reassign_expr_columns(Arc::clone(a), &rows.schema())
                        .unwrap();
                a.evaluate(&rows).unwrap().into_array(rows.num_rows()).unwrap()
            })
            .collect();
        if function.by_time {
            arguments.extend(standing.clone());
        }
        let filter = function.filter.as_ref().map(|_| &positive);
        accumulators.update(index, &arguments, filter, &groups, total).unwrap();
    }
    total
}

/// What lies in the store, function by function and group by group; the accumulators go on from it.
fn save(accumulators: &mut Accumulators, functions: &[Function], groups: usize) -> Vec<String> {
    let columns = accumulators.take_state().unwrap();
    let layout: Vec<codec::Column> = functions.iter().flat_map(|f| f.state.clone()).collect();
    let saved = codec::encode(layout.iter().zip(&columns), groups).unwrap();
    let saved: Vec<Vec<u8>> = (0..groups).map(|g| saved.value(g).to_vec()).collect();
    let columns = codec::decode(&layout, saved.iter().map(Vec::as_slice)).unwrap();
    *accumulators = Accumulators::new(functions).unwrap();
    accumulators.merge(functions, &columns, &(0..groups).collect::<Vec<_>>(), groups).unwrap();
    let names = functions.iter().flat_map(|f| f.state.iter().map(|_| f.aggregate.name().to_owned()));
    names
        .zip(&layout)
        .zip(&columns)
        .flat_map(|((name, layout), column)| {
            let saved = codec::encode([(layout, column)], groups).unwrap();
            (0..groups).map(|g| format!("{name} of {g}: {:x?}", saved.value(g))).collect::<Vec<_>>()
        })
        .collect()
}

fn assert_same(one: &[String], other: &[String]) {
    for (one, other) in one.iter().zip(other) {
        assert_eq!(one, other);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Saved, read and saved again, a state is the same; and events that come after it find what they
    /// would have found.
    #[test]
    fn what_was_saved_is_what_was_there(batches in batches(), checkpoints in any::<u8>()) {
        let functions: &[Function] = &FUNCTIONS;
        let (mut live, mut kept) = (Accumulators::new(functions).unwrap(), Accumulators::new(functions).unwrap());
        let mut groups = 0;
        for (number, batch) in batches.iter().enumerate() {
            update(&mut live, functions, (number, batch), groups);
            groups = update(&mut kept, functions, (number, batch), groups);
            if checkpoints >> (number % 8) & 1 == 1 {
                let once = save(&mut kept, functions, groups);
                assert_same(&once, &save(&mut kept, functions, groups));
            }
        }
        assert_same(&save(&mut live, functions, groups), &save(&mut kept, functions, groups));
    }
}
