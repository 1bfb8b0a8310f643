#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod elsewhere;

use std::sync::Arc;

use super::*;
use crate::store::Options;

fn record(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"E","fields":[{fields}]}}"#)
}

const A: &str = r#"{"name":"a","type":"int"}"#;
const B: &str = r#"{"name":"b","type":"int"}"#;
const B_WITH_DEFAULT: &str = r#"{"name":"b","type":"int","default":0}"#;

fn open(dir: &std::path::Path) -> (Arc<Store>, Embedded) {
    let store = Store::open(dir, &Options::default()).unwrap();
    (Arc::clone(&store), Embedded::open(store).unwrap())
}

#[test]
fn one_schema_has_one_id_under_all_subjects() {
    let dir = tempfile::tempdir().unwrap();
    let (_store, registry) = open(dir.path());
    let schema = record(A);
    let id = registry.register("x-value", &schema).unwrap();
    assert_eq!(registry.register("x-value", &schema).unwrap(), id);
    let spelled = schema.replace("\"int\"", "{\"type\": \"int\"}");
    assert_eq!(registry.register("y-value", &spelled).unwrap(), id);
    assert_eq!(registry.schema(id).unwrap().schema.text, schema);
    assert_eq!(registry.uses(id, false).unwrap(), [("x-value".to_owned(), 1), ("y-value".to_owned(), 1)]);
    let other = registry.register("x-value", &record(&format!("{A},{B_WITH_DEFAULT}"))).unwrap();
    assert_ne!(other, id);
    assert_eq!(registry.versions("x-value", false).unwrap(), [1, 2]);
    assert_eq!(registry.version("x-value", Which::Latest, false).unwrap().id, other);
    assert_eq!(registry.lookup("x-value", &spelled, false).unwrap().version, 1);
    assert_eq!(registry.lookup("y-value", &record(B), false), Err(Error::NoSchema));
    assert_eq!(registry.lookup("z-value", &schema, false), Err(Error::NoSubject("z-value".into())));
}

#[test]
fn levels_say_what_may_follow() {
    let (one, two, grown) =
        (record(A), record(&format!("{A},{B}")), record(&format!("{A},{B_WITH_DEFAULT}")));
    // (level, old, new, may follow)
    for (level, old, new, fits) in [
        (Level::None, &one, &two, true),
        (Level::Backward, &one, &two, false),
        (Level::Backward, &one, &grown, true),
        (Level::Backward, &two, &one, true),
        (Level::Forward, &one, &two, true),
        (Level::Forward, &two, &one, false),
        (Level::Full, &one, &two, false),
        (Level::Full, &two, &one, false),
        (Level::Full, &one, &grown, true),
        (Level::Full, &grown, &one, true),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (_store, registry) = open(dir.path());
        registry.set_level("s", Some(level)).unwrap();
        registry.register("s", old).unwrap();
        let registered = registry.register("s", new);
        assert_eq!(registered.is_ok(), fits, "{level:?}: {registered:?}");
        if let Err(error) = registered {
            assert!(
                matches!(&error, Error::Incompatible { reasons, .. } if reasons[0].contains("version 1"))
            );
            assert_eq!(registry.versions("s", false).unwrap(), [1]);
        }
    }
}

#[test]
fn transitive_levels_look_at_every_version() {
    // v1 {a}, v2 {}, v3 {a: string}: reads v2, not v1.
    let changed = record(r#"{"name":"a","type":"string","default":""}"#);
    for (level, fits) in [(Level::Backward, true), (Level::BackwardTransitive, false)] {
        let dir = tempfile::tempdir().unwrap();
        let (_store, registry) = open(dir.path());
        registry.set_level("", Some(level)).unwrap();
        registry.register("s", &record(A)).unwrap();
        registry.register("s", &record("")).unwrap();
        assert_eq!(registry.incompatibilities("s", &changed).unwrap().is_empty(), fits);
        assert_eq!(registry.register("s", &changed).is_ok(), fits);
        assert_eq!(registry.incompatibilities("new", &changed).unwrap(), Vec::<String>::new());
        assert!(!registry.incompatibilities_with("s", Which::Number(1), &changed).unwrap().is_empty());
    }
}

#[test]
fn deleting_is_soft_first_and_ids_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (_store, registry) = open(dir.path());
    let subject = "s".to_owned();
    registry.set_level("s", Some(Level::None)).unwrap();
    let first = registry.register("s", &record(A)).unwrap();
    registry.register("s", &record(B)).unwrap();
    let delete = |number, permanent| registry.delete_version("s", Which::Number(number), permanent);
    assert_eq!(delete(1, true), Err(Error::VersionNotDeleted(subject.clone(), 1)));
    assert_eq!(delete(1, false), Ok(1));
    assert_eq!(delete(1, false), Err(Error::VersionDeleted(subject.clone(), 1)));
    assert_eq!(registry.versions("s", false).unwrap(), [2]);
    assert_eq!(registry.versions("s", true).unwrap(), [1, 2]);
    assert_eq!(registry.version("s", Which::Number(1), false), Err(Error::NoVersion(1)));
    assert_eq!(registry.version("s", Which::Number(1), true).unwrap().id, first);
    // The schema comes back under a new version, with its old id.
    assert_eq!(registry.register("s", &record(A)), Ok(first));
    assert_eq!(registry.versions("s", false).unwrap(), [2, 3]);
    assert_eq!(delete(1, true), Ok(1));
    assert_eq!(delete(9, false), Err(Error::NoVersion(9)));

    assert_eq!(registry.delete_subject("s", true), Err(Error::SubjectNotDeleted(subject.clone())));
    assert_eq!(registry.delete_subject("s", false), Ok(vec![2, 3]));
    assert_eq!(registry.delete_subject("s", false), Err(Error::SubjectDeleted(subject.clone())));
    assert!(registry.subjects(false).is_empty());
    assert_eq!(registry.subjects(true), ["s"]);
    assert_eq!(registry.delete_subject("s", true), Ok(vec![2, 3]));
    assert_eq!(registry.delete_subject("s", true), Err(Error::NoSubject(subject)));
    assert!(registry.schema(first).is_some(), "records with this id may be in a log");
    assert_eq!(registry.subject_level("s", false), Err(Error::NoConfig("s".into())));
}

#[test]
fn everything_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = {
        let (store, registry) = open(dir.path());
        registry.set_level("", Some(Level::Full)).unwrap();
        registry.set_level("a/b c", Some(Level::None)).unwrap();
        let first = registry.register("a/b c", &record(A)).unwrap();
        let second = registry.register("a/b c", &record(B)).unwrap();
        registry.delete_version("a/b c", Which::Number(1), false).unwrap();
        store.close().unwrap();
        (first, second)
    };
    let (_store, registry) = open(dir.path());
    assert_eq!(registry.level(), Level::Full);
    assert_eq!(registry.subject_level("a/b c", false), Ok(Level::None));
    assert_eq!(registry.subjects(false), ["a/b c"]);
    assert_eq!(registry.versions("a/b c", false).unwrap(), [2]);
    assert_eq!(registry.versions("a/b c", true).unwrap(), [1, 2]);
    assert_eq!(registry.schema(first).unwrap().schema.text, record(A));
    assert_eq!(registry.register("other", &record(B)), Ok(second));
    assert_eq!(registry.register("other2", &record(B_WITH_DEFAULT)), Ok(second + 1));
}

#[test]
fn what_is_no_schema_or_version_or_level_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (_store, registry) = open(dir.path());
    for bad in [
        "",
        "{",
        r#"{"type":"record"}"#,
        r#""nothing""#,
        r#"{"type":"record","name":"E","fields":[{"name":"a","type":"X"}]}"#,
    ] {
        assert!(matches!(registry.register("s", bad), Err(Error::InvalidSchema(_))), "{bad}");
    }
    // Not every schema of the registry can be a stream's: recursive ones are fine here.
    let list = r#"{"type":"record","name":"L","fields":[{"name":"next","type":["null","L"]}]}"#;
    assert!(registry.register("s", list).is_ok());
    assert!(registry.register("keys", r#""string""#).is_ok());
    for bad in ["0", "-2", "x", "2147483648", ""] {
        assert!(matches!(bad.parse::<Which>(), Err(Error::InvalidVersion(_))), "{bad}");
    }
    assert_eq!("latest".parse(), Ok(Which::Latest));
    assert_eq!("backward_transitive".parse(), Ok(Level::BackwardTransitive));
    assert!(matches!("sideways".parse::<Level>(), Err(Error::InvalidLevel(_))));
}

const COUNTRY: &str = r#"{"type":"enum","name":"geo.Country","symbols":["PL","DE"]}"#;
const ADDRESS: &str =
    r#"{"type":"record","name":"geo.Address","fields":[{"name":"country","type":"Country"}]}"#;
const ORDER: &str = r#"{"type":"record","name":"Order","fields":[{"name":"to","type":"geo.Address"},{"name":"from","type":"geo.Country"}]}"#;

fn referring(text: &str, references: &[(&str, &str)]) -> Schema {
    let reference = |(name, subject): &(&str, &str)| Reference {
        name: (*name).into(),
        subject: (*subject).into(),
        version: 1,
    };
    Schema { references: references.iter().map(reference).collect(), ..Schema::avro(text) }
}

#[test]
fn schemas_that_refer_to_others_stand_by_themselves_after_a_restart_too() {
    let dir = tempfile::tempdir().unwrap();
    let order = || referring(ORDER, &[("geo.Address", "address"), ("geo.Country", "country")]);
    let id = {
        let (store, registry) = open(dir.path());
        registry.register("country", COUNTRY).unwrap();
        registry.register("address", referring(ADDRESS, &[("geo.Country", "country")])).unwrap();
        let id = registry.register("order", order()).unwrap();
        // The versions may go; the schemas they had stay.
        for subject in ["order", "address", "country"] {
            registry.delete_subject(subject, false).unwrap();
            registry.delete_subject(subject, true).unwrap();
        }
        store.close().unwrap();
        id
    };
    let (_store, registry) = open(dir.path());
    let found = registry.schema(id).unwrap();
    assert_eq!(found.schema, order());
    let reader = millpond_engine::avro::ReaderSchema::parse(&found.whole, None).unwrap();
    assert_eq!(reader.arrow().fields().len(), 2);
    assert!(matches!(registry.register("order", order()), Err(Error::InvalidSchema(_))), "what is gone");
}
