//! Random pairs of schemas and values: our decoder against apache-avro's `Value` with resolution and
//! against arrow-avro, on what those can do.

use std::cell::Cell;

use apache_avro::Schema;
use apache_avro::types::Value as Avro;
use arrow_avro::reader::ReaderBuilder;
use arrow_avro::schema::{AvroSchema, Fingerprint, FingerprintAlgorithm, SchemaStore};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::value::{Plain, rows};
use super::*;
use crate::avro::frame;

/// A type of the writer's, the reader's for it, and values of it.
#[derive(Debug, Clone)]
struct Pair {
    writer: String,
    reader: String,
    value: BoxedStrategy<Avro>,
}

fn pair(writer: &str, reader: &str, value: impl Strategy<Value = Avro> + 'static) -> Pair {
    Pair { writer: writer.to_owned(), reader: reader.to_owned(), value: value.boxed() }
}

fn same(ty: &str, value: impl Strategy<Value = Avro> + 'static) -> Pair {
    pair(ty, ty, value)
}

fn logical(base: &str, logical: &str) -> String {
    format!(r#"{{"type":"{base}","logicalType":"{logical}"}}"#)
}

/// `name` makes named types unique within a schema.
fn leaf(name: &str) -> BoxedStrategy<Pair> {
    let int = || any::<i32>().prop_map(Avro::Int);
    let long = || any::<i64>().prop_map(Avro::Long);
    let float = || any::<f32>().prop_map(Avro::Float);
    let text = || any::<String>().prop_map(Avro::String);
    let raw = || prop::collection::vec(any::<u8>(), 0..9).prop_map(Avro::Bytes);
    let fixed = format!(r#"{{"type":"fixed","name":"F{name}","size":3}}"#);
    let colour = format!(r#"{{"type":"enum","name":"C{name}","symbols":["A","B","C"]}}"#);
    let paint = format!(r#"{{"type":"enum","name":"C{name}","symbols":["C","X","A"],"default":"X"}}"#);
    let symbol = || (0..3_u32).prop_map(|i| Avro::Enum(i, ["A", "B", "C"][i as usize].to_owned()));
    // Within what 64 bits of microseconds hold.
    let time = || -9_000_000_000_000_000..9_000_000_000_000_000_i64;
    prop_oneof![
        Just(same(r#""boolean""#, any::<bool>().prop_map(Avro::Boolean))),
        Just(same(r#""int""#, int())),
        Just(same(r#""long""#, long())),
        Just(same(r#""float""#, float())),
        Just(same(r#""double""#, any::<f64>().prop_map(Avro::Double))),
        Just(same(r#""string""#, text())),
        Just(same(r#""bytes""#, raw())),
        Just(pair(r#""int""#, r#""long""#, int())),
        Just(pair(r#""int""#, r#""double""#, int())),
        Just(pair(r#""long""#, r#""double""#, long())),
        Just(pair(r#""int""#, r#""float""#, int())),
        Just(pair(r#""long""#, r#""float""#, long())),
        Just(pair(r#""float""#, r#""double""#, float())),
        Just(pair(r#""string""#, r#""bytes""#, text())),
        Just(same(&fixed, prop::collection::vec(any::<u8>(), 3).prop_map(|v| Avro::Fixed(3, v)))),
        Just(same(&colour, symbol())),
        Just(pair(&colour, &paint, symbol())),
        Just(same(&logical("int", "date"), any::<i32>().prop_map(Avro::Date))),
        Just(same(&logical("int", "time-millis"), (0..86_400_000).prop_map(Avro::TimeMillis))),
        Just(same(&logical("long", "time-micros"), (0..86_400_000_000_i64).prop_map(Avro::TimeMicros))),
        Just(same(&logical("long", "timestamp-millis"), time().prop_map(Avro::TimestampMillis))),
        Just(same(&logical("long", "timestamp-micros"), any::<i64>().prop_map(Avro::TimestampMicros))),
        Just(same(&logical("long", "timestamp-nanos"), any::<i64>().prop_map(Avro::TimestampNanos))),
        Just(same(
            &logical("long", "local-timestamp-micros"),
            any::<i64>().prop_map(Avro::LocalTimestampMicros)
        )),
        Just(same(
            r#"{"type":"bytes","logicalType":"decimal","precision":20,"scale":3}"#,
            any::<i64>().prop_map(|v| Avro::Decimal(v.to_be_bytes().to_vec().into())),
        )),
    ]
    .boxed()
}

/// A nested pair. The reader's union is the writer's or wider.
fn nested(name: String, depth: u32) -> BoxedStrategy<Pair> {
    let base = if depth == 0 {
        leaf(&name)
    } else {
        let inner = nested(format!("{name}i"), depth - 1);
        prop_oneof![
            3 => leaf(&name),
            1 => inner.clone().prop_map(|p| Pair {
                writer: format!(r#"{{"type":"array","items":{}}}"#, p.writer),
                reader: format!(r#"{{"type":"array","items":{}}}"#, p.reader),
                value: prop::collection::vec(p.value, 0..4).prop_map(Avro::Array).boxed(),
            }),
            1 => inner.prop_map(|p| Pair {
                writer: format!(r#"{{"type":"map","values":{}}}"#, p.writer),
                reader: format!(r#"{{"type":"map","values":{}}}"#, p.reader),
                value: prop::collection::hash_map("[a-c]{0,2}", p.value, 0..4).prop_map(Avro::Map).boxed(),
            }),
            1 => fields(format!("{name}r"), depth - 1).prop_map(move |p| p.into_pair(&format!("R{name}"))),
        ]
        .boxed()
    };
    (base, 0..4_u8)
        .prop_map(|(p, null)| {
            let optional = |value: BoxedStrategy<Avro>, null: u32| {
                prop_oneof![
                    Just(Avro::Union(null, Box::new(Avro::Null))),
                    value.prop_map(move |v| Avro::Union(1 - null, Box::new(v)))
                ]
                .boxed()
            };
            match null {
                1 => Pair {
                    writer: format!(r#"["null",{}]"#, p.writer),
                    reader: format!(r#"["null",{}]"#, p.reader),
                    value: optional(p.value, 0),
                },
                2 => Pair {
                    writer: format!(r#"[{},"null"]"#, p.writer),
                    reader: format!(r#"["null",{}]"#, p.reader),
                    value: optional(p.value, 1),
                },
                3 => Pair { reader: format!(r#"["null",{}]"#, p.reader), ..p },
                _ => p,
            }
        })
        .boxed()
}

/// What becomes of a field on its way from the writer to the reader.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Kept,
    Dropped,
    New,
}

#[derive(Debug, Clone)]
struct Fields {
    fields: Vec<(String, Fate, Pair)>,
    /// Turns the reader's fields by this many places.
    turn: usize,
}

fn fields(name: String, depth: u32) -> BoxedStrategy<Fields> {
    let fate = prop_oneof![4 => Just(Fate::Kept), 1 => Just(Fate::Dropped), 1 => Just(Fate::New)];
    let field = move |i: usize| {
        let name = name.clone();
        (fate.clone(), nested(format!("{name}{i}"), depth))
            .prop_map(move |(fate, pair)| (format!("f{i}"), fate, pair))
    };
    (field(0), field(1), field(2), field(3), 0..4_usize)
        .prop_map(|(a, b, c, d, turn)| Fields { fields: vec![a, b, c, d], turn })
        .boxed()
}

impl Fields {
    fn into_pair(self, name: &str) -> Pair {
        let schema = |fields: Vec<String>| {
            format!(r#"{{"type":"record","name":"{name}","fields":[{}]}}"#, fields.join(","))
        };
        let field = |name: &str, ty: &str, rest: &str| format!(r#"{{"name":"{name}","type":{ty}{rest}}}"#);
        let writer = self.fields.iter().filter(|(_, fate, _)| *fate != Fate::New);
        let writer = schema(writer.map(|(name, _, p)| field(name, &p.writer, "")).collect());
        let reader = self.fields.iter().filter(|(_, fate, _)| *fate != Fate::Dropped);
        let mut reader: Vec<String> = reader
            .map(|(name, fate, p)| match fate {
                Fate::New => field(name, r#"["null","long"]"#, r#","default":null"#),
                _ => field(name, &p.reader, ""),
            })
            .collect();
        let turn = self.turn % reader.len().max(1);
        reader.rotate_left(turn);
        let values: Vec<_> = self
            .fields
            .into_iter()
            .filter(|(_, fate, _)| *fate != Fate::New)
            .map(|(name, _, p)| p.value.prop_map(move |value| (name.clone(), value)))
            .collect();
        Pair { writer, reader: schema(reader), value: values.prop_map(Avro::Record).boxed() }
    }
}

/// A pair of record schemas and some values of the writer's.
fn cases() -> impl Strategy<Value = (String, String, Vec<Avro>)> {
    fields("x".into(), 2).prop_flat_map(|fields| {
        let pair = fields.into_pair("Root");
        (Just(pair.writer), Just(pair.reader), prop::collection::vec(pair.value, 1..4))
    })
}

/// What apache-avro reads; an error where its resolution does not reach (records in unions).
fn apache(writer: &Schema, reader: &Schema, bodies: &[Vec<u8>]) -> Result<Vec<Plain>, String> {
    let datum = apache_avro::reader::datum::GenericDatumReader::builder(writer)
        .reader_schema(reader)
        .build()
        .unwrap();
    let read = |body: &Vec<u8>| datum.read_value(&mut body.as_slice()).map(|value| Plain::from(&value));
    bodies.iter().map(read).collect::<Result<_, _>>().map_err(|e| e.to_string())
}

/// What arrow-avro reads; an error where it cannot plan the pair, or where a record has no bytes: it
/// gives one row for two such messages.
fn arrow_avro(writer: &str, reader: &str, bodies: &[Vec<u8>]) -> Result<Vec<Plain>, String> {
    if bodies.iter().any(Vec::is_empty) {
        return Err("arrow-avro counts bytes, not messages".to_owned());
    }
    let mut store = SchemaStore::new_with_type(FingerprintAlgorithm::Id);
    store.set(Fingerprint::Id(7), AvroSchema::new(writer.to_owned())).map_err(|e| e.to_string())?;
    let mut decoder = ReaderBuilder::new()
        .with_writer_schema_store(store)
        .with_reader_schema(AvroSchema::new(reader.to_owned()))
        .build_decoder()
        .map_err(|e| e.to_string())?;
    for body in bodies {
        let mut message = Vec::new();
        frame(7, &mut message);
        message.extend_from_slice(body);
        let read = decoder.decode(&message).map_err(|e| e.to_string())?;
        assert_eq!(read, message.len());
    }
    Ok(rows(&decoder.flush().map_err(|e| e.to_string())?.ok_or("no rows of no columns")?))
}

#[test]
fn others_read_what_we_read() {
    const CASES: u32 = 500;
    let (by_apache, by_arrow, by_json) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&cases(), |(writer, reader, values)| {
            let schema = Schema::parse_str(&writer).unwrap();
            let datum = apache_avro::writer::datum::GenericDatumWriter::builder(&schema).build().unwrap();
            let bodies: Vec<Vec<u8>> =
                values.iter().map(|value| datum.write_value_to_vec(value.clone()).unwrap()).collect();
            let ours = ReaderSchema::parse(&reader, None).unwrap();
            let refs: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
            let batch = decode(&ours, &writer, &refs);
            let got = rows(&batch);
            by_json.set(by_json.get() + u32::from(super::plain::reads_back(&ours, &batch)?));

            if let Ok(expected) = apache(&schema, &Schema::parse_str(&reader).unwrap(), &bodies) {
                prop_assert_eq!(&got, &expected, "apache-avro");
                by_apache.set(by_apache.get() + 1);
            }
            if let Ok(expected) = arrow_avro(&writer, &reader, &bodies) {
                prop_assert_eq!(&got, &expected, "arrow-avro");
                by_arrow.set(by_arrow.get() + 1);
            }
            prefixes_fail_alone(&ours, &writer, &bodies, &got)?;
            one_column_reads_as_among_others(&ours, &writer, &bodies, &got)
        })
        .unwrap();
    // An oracle that is never able proves nothing.
    println!(
        "of {CASES} cases apache-avro was able to {}, arrow-avro to {}, JSON to {}",
        by_apache.get(),
        by_arrow.get(),
        by_json.get()
    );
    assert!(by_apache.get() > CASES / 2 && by_arrow.get() > CASES / 2 && by_json.get() > CASES / 4);
}

fn prefixes_fail_alone(
    reader: &ReaderSchema,
    writer: &str,
    bodies: &[Vec<u8>],
    expected: &[Plain],
) -> Result<(), TestCaseError> {
    let columns = all(reader);
    let resolution = Resolution::compile(writer, reader, &columns).unwrap();
    let mut decoder = Decoder::new(reader, &columns);
    for body in bodies {
        for len in 0..body.len() {
            prop_assert!(decoder.push(&resolution, &body[..len]).is_err());
        }
        decoder.push(&resolution, body).unwrap();
    }
    prop_assert_eq!(rows(&decoder.finish()), expected);
    Ok(())
}

fn one_column_reads_as_among_others(
    reader: &ReaderSchema,
    writer: &str,
    bodies: &[Vec<u8>],
    expected: &[Plain],
) -> Result<(), TestCaseError> {
    for column in all(reader) {
        let resolution = Resolution::compile(writer, reader, &[column]).unwrap();
        let mut decoder = Decoder::new(reader, &[column]);
        for body in bodies {
            decoder.push(&resolution, body).unwrap();
        }
        for (row, whole) in rows(&decoder.finish()).into_iter().zip(expected) {
            let (Plain::Record(row), Plain::Record(whole)) = (row, whole) else { unreachable!() };
            prop_assert_eq!(&row[0], &whole[column]);
        }
    }
    Ok(())
}
