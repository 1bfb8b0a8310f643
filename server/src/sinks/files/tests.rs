//! Files on a real disk: what is read back is what was owed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Date32Array, Int64Array, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::Int64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;

use super::*;
use crate::catalog::history;
use crate::store::Planned;

fn entry(sequence: u64, rows: &[(Option<String>, i64)]) -> OutboxEntry {
    let texts: ArrayRef = Arc::new(rows.iter().map(|(k, _)| k.clone()).collect::<StringArray>());
    let numbers: ArrayRef = Arc::new(rows.iter().map(|(_, n)| *n).collect::<Int64Array>());
    let n = rows.len();
    let instants = || TimestampMicrosecondArray::from(vec![sequence as i64; n]).with_timezone("UTC");
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("k", texts),
        ("n", numbers),
        (history::EVENT_TIME, Arc::new(instants())),
        (history::EVENT_DATE, Arc::new(Date32Array::from(vec![0; n]))),
        (history::AVAILABLE_AT, Arc::new(instants())),
        (history::MODELLED, Arc::new(BooleanArray::from(vec![false; n]))),
        (history::COMMIT, Arc::new(Int64Array::from(vec![sequence as i64; n]))),
        (history::OP, Arc::new(StringArray::from(vec![history::UPSERT; n]))),
    ];
    OutboxEntry {
        sequence,
        epoch: sequence,
        rows: RecordBatch::from(StructArray::try_from(columns).unwrap()),
    }
}

fn files(root: &Path, format: FileFormat) -> Files<Disk> {
    let features = entry(1, &[]).rows.project(&[0, 1]).unwrap().schema();
    Files {
        folder: Disk::open(root, Path::new("out"), "id").unwrap(),
        format,
        partition_by: Some("k".to_owned()),
        history: history::schema(&features),
    }
}

/// Bytes of every file below a folder, by name.
fn listing(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for part in fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
        for file in fs::read_dir(&part).unwrap().map(|e| e.unwrap().path()) {
            let name = file.strip_prefix(folder).unwrap().display().to_string();
            found.insert(name, fs::read(&file).unwrap());
        }
    }
    found
}

#[test]
fn a_write_that_is_done_again_gives_the_same_files() {
    for format in [FileFormat::Csv, FileFormat::Parquet] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("sinks");
        let entries = [
            entry(3, &[(Some("a".into()), 1), (None, 2)]),
            entry(4, &[(Some("a".into()), 3), (Some(String::new()), 4)]),
        ];
        files(&root, format).write(&entries).unwrap();
        let first = listing(&root.join("out"));
        assert_eq!(first.len(), 3, "{:?}", first.keys());
        let mut again = files(&root, format);
        let planned = Some(Planned { last: 4, at: millpond_engine::time::Micros(0) });
        let progress = SinkProgress { through: 2, planned };
        assert_eq!(again.recover(progress).unwrap(), Found::Nothing);
        again.write(&entries).unwrap();
        assert_eq!(listing(&root.join("out")), first);
        let progress = SinkProgress { through: 3, planned: None };
        assert_eq!(again.recover(progress).unwrap(), Found::Beyond(4));
    }
}

#[test]
fn a_csv_file_has_every_column() {
    let dir = tempfile::tempdir().unwrap();
    files(dir.path(), FileFormat::Csv).write(&[entry(1, &[(Some("a,b".into()), 7)])]).unwrap();
    let text = String::from_utf8(
        listing(&dir.path().join("out")).remove("k=a,b/part-000000000001-000000000001.csv").unwrap(),
    );
    assert_eq!(
        text.unwrap(),
        "k,n,_event_time,_event_date,_available_at,_modelled,_commit,_op\n\
         \"a,b\",7,1970-01-01T00:00:00.000001Z,1970-01-01,1970-01-01T00:00:00.000001Z,false,1,upsert\n"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// Whatever the keys, and however rows are cut into writes, each row is in the folder of its key once.
    #[test]
    fn parquet_has_each_row_in_its_folder_once(
        entries in prop::collection::vec(prop::collection::vec(prop::option::of("[a-c/= %]{0,2}"), 1..6), 1..6),
        cut in 1_usize..4,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut sink = files(dir.path(), FileFormat::Parquet);
        let mut number = 0;
        let mut expected: BTreeMap<Option<String>, Vec<i64>> = BTreeMap::new();
        let owed: Vec<OutboxEntry> = entries.iter().zip(1..).map(|(keys, sequence)| {
            let rows: Vec<(Option<String>, i64)> = keys.iter().map(|key| {
                number += 1;
                expected.entry(key.clone()).or_default().push(number);
                (key.clone(), number)
            }).collect();
            entry(sequence, &rows)
        }).collect();
        for write in owed.chunks(cut) {
            sink.write(write).unwrap();
        }
        let mut found: BTreeMap<Option<String>, Vec<i64>> = BTreeMap::new();
        for (name, bytes) in listing(&dir.path().join("out")) {
            let value = name.split_once('/').unwrap().0.strip_prefix("k=").unwrap();
            let value = percent_encoding::percent_decode_str(value).decode_utf8().unwrap().into_owned();
            let value = (value != "__HIVE_DEFAULT_PARTITION__").then_some(value);
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).unwrap().build().unwrap();
            for batch in reader {
                let batch = batch.unwrap();
                prop_assert!(batch.column_by_name("k").is_none());
                let numbers = batch.column_by_name("n").unwrap().as_primitive::<Int64Type>().values().to_vec();
                found.entry(value.clone()).or_default().extend(numbers);
            }
        }
        prop_assert_eq!(found, expected);
    }
}
