//! Events in, vectors and training data out, on the embedded log.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Float64Type, Int64Type};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::{ARROW, CTR, Server, event};

/// Two users over two windows; the third window holds one late-comer's event only.
async fn replayed() -> Server {
    let server = Server::start().await;
    server.events("historical").await;
    let group = server.post("/api/v1/feature-groups", json!({"name": "ctr", "sql": CTR})).await.ok();
    assert_eq!(group["primary_key"], json!(["user_id"]));
    assert_eq!(group["time"], "historical");
    let view = json!({"name": "fv", "query": {"feature_group": {"name": "ctr"}}});
    let view = server.post("/api/v1/feature-views", view).await.ok();
    assert_eq!(
        (&view["features"][0]["name"], &view["features"][0]["type"]),
        (&json!("ctr"), &json!("double"))
    );
    assert_eq!(view["serving_keys"], json!(["user_id"]));
    server
        .append(json!([
            event("u1", 1, 10, "2024-05-01T12:00:00Z"),
            event("u2", 0, 4, "2024-05-01T12:01:00Z"),
            event("u1", 1, 10, "2024-05-01T12:04:59.999Z"),
            event("u1", 3, 4, "2024-05-01T12:05:00Z"),
            event("u2", 0, 0, "2024-05-01T12:09:00Z"),
            event("u1", 1, 1, "2024-05-01T12:10:00Z"),
        ]))
        .await;
    server.finish("ctr", 5).await;
    server
}

fn table(bytes: &[u8]) -> Vec<RecordBatch> {
    StreamReader::try_new(bytes, None).unwrap().map(Result::unwrap).collect()
}

fn ipc(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut out = Vec::new();
    let mut writer = StreamWriter::try_new(&mut out, batch.schema_ref()).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    drop(writer);
    out
}

#[tokio::test]
async fn rows_are_online() {
    let server = replayed().await;
    let rows = server.get("/api/v1/feature-groups/ctr/1/rows").await.ok();
    let latest: Vec<(&Value, &Value, &Value)> = rows["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| (&r["user_id"], &r["ctr"], &r["_event_time"]))
        .collect();
    let (u1, u2) = (json!("u1"), json!("u2"));
    let (third, second) = (json!("2024-05-01T12:15:00Z"), json!("2024-05-01T12:10:00Z"));
    assert_eq!(latest, [(&u1, &json!(1.0), &third), (&u2, &Value::Null, &second)]);
    assert!(rows["as_of"].as_str().unwrap() >= "2024-05-01T12:15:00Z");
    let previous = server.get("/api/v1/feature-groups/ctr/1/rows?which=previous&limit=1").await.ok();
    assert_eq!(previous["rows"].as_array().unwrap().len(), 1);
    assert_eq!(previous["rows"][0]["ctr"], json!(0.75));
    let one = server.get("/api/v1/feature-groups/ctr/1/rows/u2").await.ok();
    assert_eq!((&one["latest"]["ctr"], &one["previous"]["ctr"]), (&Value::Null, &json!(0.0)));
    let same = server.get("/api/v1/feature-groups/ctr/1/rows/%5B%22u2%22%5D").await.ok();
    assert_eq!(same["latest"], one["latest"], "a key as a JSON array");
    let none = server.get("/api/v1/feature-groups/ctr/1/rows/u3").await.ok();
    assert_eq!((&none["latest"], &none["previous"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn vectors_are_served() {
    let server = replayed().await;
    let path = "/api/v1/feature-views/fv/1/vectors";
    let entries = json!([{"user_id": "u1"}, {"user_id": "u2"}, {"user_id": "u3"}]);
    let reply = server.post(path, json!({ "entries": entries })).await.ok();
    assert_eq!(reply["features"], json!(["ctr"]));
    assert_eq!(
        reply["vectors"],
        json!([
            {"values": [1.0], "status": "complete", "event_time": "2024-05-01T12:15:00Z"},
            {"values": [null], "status": "complete", "event_time": "2024-05-01T12:10:00Z"},
            {"values": [null], "status": "missing", "event_time": null}
        ])
    );
    let as_of = reply["as_of"]["ctr_1"].as_str().unwrap();
    assert!(as_of >= "2024-05-01T12:15:00Z", "{as_of}");
    let asked = json!({"entries": entries, "which": "previous", "include_keys": true, "metadata": true});
    let previous = server.post(path, asked).await.ok();
    assert_eq!(previous["features"], json!(["user_id", "ctr"]));
    assert_eq!(previous["vectors"][0]["values"], json!(["u1", 0.75]));
    let group = &previous["vectors"][0]["groups"][0];
    assert_eq!((&group["feature_group"], &group["status"]), (&json!("ctr"), &json!("found")));
    assert!(group["commit"].as_u64().unwrap() >= 1);
    let fresh = server.post(path, json!({"entries": entries, "max_age": 60})).await.ok();
    let statuses: Vec<&Value> = fresh["vectors"].as_array().unwrap().iter().map(|v| &v["status"]).collect();
    assert_eq!(statuses, [&json!("complete"), &json!("missing"), &json!("missing")], "u2's row is older");
    let one = server.get("/api/v1/feature-views/fv/1/vector?user_id=u1&include_keys=true").await.ok();
    assert_eq!(one["values"], json!({"user_id": "u1", "ctr": 1.0}));
}

#[tokio::test]
async fn the_history_is_the_same_before_and_after_delta() {
    let server = replayed().await;
    let path = "/api/v1/feature-groups/ctr/1/history";
    let read = async || {
        let reply = server.request("GET", path, &[("accept", "application/json")], "").await.ok();
        let mut rows: Vec<Value> = reply["rows"].as_array().unwrap().clone();
        rows.sort_by_key(|r| (r["_event_time"].to_string(), r["user_id"].to_string()));
        rows
    };
    let before = read().await;
    let values: Vec<(&Value, &Value)> = before.iter().map(|r| (&r["user_id"], &r["ctr"])).collect();
    let (u1, u2) = (json!("u1"), json!("u2"));
    let expected = [json!(0.1), json!(0.0), json!(0.75), Value::Null, json!(1.0)];
    assert_eq!(
        values,
        [
            (&u1, &expected[0]),
            (&u2, &expected[1]),
            (&u1, &expected[2]),
            (&u2, &expected[3]),
            (&u1, &expected[4])
        ]
    );
    assert!(before.iter().all(|r| r["_modelled"] == json!(true) && r["_op"] == json!("upsert")));
    let flushed = server.post("/api/v1/feature-groups/ctr/1/flush", json!({})).await.ok();
    assert!(flushed["delta_version"].is_u64(), "{flushed}");
    assert_eq!(read().await, before);
    let group = server.get("/api/v1/feature-groups/ctr/1").await.ok();
    assert_eq!(group["status"]["outbox_rows"], 0);
    assert!(std::path::Path::new(group["location"].as_str().unwrap()).join("_delta_log").is_dir());
    let range = "?start_time=2024-05-01T12:10:00Z&end_time=2024-05-01T12:15:00Z";
    let arrow = server.request("GET", &format!("{path}{range}"), &[("accept", ARROW)], "").await;
    assert_eq!(table(&arrow.body).iter().map(RecordBatch::num_rows).sum::<usize>(), 2);
    let limited =
        server.request("GET", &format!("{path}?limit=3"), &[("accept", "application/json")], "").await.ok();
    assert_eq!(limited["rows"].as_array().unwrap().len(), 3);
    let parquet = server.request("GET", path, &[("accept", "application/vnd.apache.parquet")], "").await;
    assert_eq!(&parquet.body[..4], b"PAR1");
}

#[tokio::test]
async fn labels_get_what_was_served_then() {
    let server = replayed().await;
    let users: ArrayRef = Arc::new(StringArray::from(vec!["u1", "u2", "u1", "u1", "u3"]));
    let noon = 1_714_564_800_000_000_i64;
    let minute = 60_000_000;
    let times =
        vec![noon + 5 * minute, noon + 6 * minute, noon + 11 * minute, noon + 4 * minute, noon + 30 * minute];
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"));
    let labels: ArrayRef = Arc::new(arrow::array::Int64Array::from(vec![1, 2, 3, 4, 5]));
    let body = ipc(vec![("user_id", users), ("at", times), ("label", labels)]);
    let headers = [("content-type", ARROW), ("accept", ARROW)];
    let path = "/api/v1/feature-views/fv/1/training-data?event_time=at&primary_key=true";
    let reply = server.request("POST", path, &headers, body).await;
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    let batches = table(&reply.body);
    let names: Vec<&str> = batches[0].schema_ref().fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(names, ["user_id", "ctr", "label"]);
    let batch = arrow::compute::concat_batches(batches[0].schema_ref(), &batches).unwrap();
    let ctr: Vec<Option<f64>> = batch["ctr"].as_primitive::<Float64Type>().iter().collect();
    assert_eq!(ctr, [Some(0.1), Some(0.0), Some(0.75), None, None]);
    assert_eq!(batch["label"].as_primitive::<Int64Type>().values(), &[1, 2, 3, 4, 5], "in the labels' order");
    let all = server
        .post("/api/v1/feature-views/fv/1/batch-data", json!({"primary_key": true, "event_time": true}));
    assert_eq!(all.await.ok()["rows"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn every_record_is_accounted_for() {
    let server = replayed().await;
    let frames = [("content-type", "application/vnd.millpond.avro")];
    let first = server.get("/api/v1/streams/events/records?limit=1").await.ok();
    let first = STANDARD.decode(first["records"][0]["value"].as_str().unwrap()).unwrap();
    let cut = &first[..first.len() - 1];
    let (null, length) = (u32::MAX.to_be_bytes(), |frame: &[u8]| (frame.len() as u32).to_be_bytes());
    let junk = [&length(b"abc")[..], b"abc", &null, &length(cut), cut].concat();
    let appended = server.request("POST", "/api/v1/streams/events/records", &frames, junk).await.ok();
    assert_eq!(appended["appended"], 3);
    let late = server.append(json!([event("u9", 1, 1, "2024-05-01T12:00:00Z")])).await;
    server.post("/api/v1/streams/events/heartbeat", json!({"time": "2024-05-01T13:00:00Z"})).await.ok();
    server.post(&format!("/api/v1/feature-groups/ctr/1/wait?position={late}"), json!({})).await.ok();
    let account = server
        .until("/api/v1/streams/events/accounting", |a| a["groups"][0]["heartbeats"] == json!(1))
        .await["groups"][0]
        .clone();
    let counts: Vec<&Value> = ["read", "applied", "late", "quarantined", "tombstones", "heartbeats"]
        .iter()
        .map(|n| &account[*n])
        .collect();
    // A tombstone without a key is a dead letter, as the frame that is none.
    assert_eq!(counts, [&json!(11), &json!(6), &json!(1), &json!(3), &json!(0), &json!(1)], "{account}");
    assert_eq!(account["balanced"], true);
    let dead = server.get("/api/v1/streams/events/quarantine").await.ok();
    assert_eq!(dead["by_reason"], json!({"bad_body": 1, "bad_frame": 1, "tombstone_without_key": 1}));
    assert_eq!((&dead["records"][0]["offset"], &dead["records"][0]["value"]), (&json!(6), &json!("YWJj")));
    let page = server.get("/api/v1/streams/events/quarantine?limit=1").await.ok();
    let next = page["next"].as_str().unwrap();
    let rest = server.get(&format!("/api/v1/streams/events/quarantine?after={next}")).await.ok();
    assert_eq!(rest["records"], json!([dead["records"][1], dead["records"][2]]));
    let late = server.get("/api/v1/feature-groups/ctr/1/late").await.ok();
    assert_eq!((&late["records"][0]["offset"], &late["records"][0]["stream"]), (&json!(9), &json!("events")));
    let epochs = server.get("/api/v1/feature-groups/ctr/1/epochs").await.ok();
    let read: u64 = epochs["epochs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["ranges"][0]["count"].as_u64().unwrap_or(0))
        .sum();
    assert_eq!(read, 11, "the journal's ranges hold every record");
    let raw = server.get("/api/v1/streams/events/records").await.ok();
    let rows: Vec<&Value> = raw["records"].as_array().unwrap().iter().map(|r| &r["row"]).collect();
    assert_eq!(*rows[0], event("u1", 1, 10, "2024-05-01T12:00:00Z"), "decoded as it was written");
    assert!(rows[6..9].iter().all(|row| row.is_null()), "no row is in the three bad ones: {raw}");
    assert_eq!(*rows[9], event("u9", 1, 1, "2024-05-01T12:00:00Z"), "what comes after them is read");

    let metrics = String::from_utf8(server.get("/metrics").await.body.to_vec()).unwrap();
    for line in [
        r#"stream_events_processed_total{feature_group="ctr_1",stream="events"} 11"#,
        r#"stream_records_total{feature_group="ctr_1",outcome="applied",stream="events"} 6"#,
        r#"stream_records_total{feature_group="ctr_1",outcome="late",stream="events"} 1"#,
        r#"stream_features_computed_total{feature_group="ctr_1"} 5"#,
        r#"online_writes_total{feature_group="ctr_1"} 5"#,
        r#"quarantine_records{feature_group="ctr_1",stream="events"} 3"#,
        r#"stream_lag_records{feature_group="ctr_1",stream="events"} 0"#,
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn a_group_explains_itself_and_stands_still_when_told() {
    let server = replayed().await;
    let explained = server.get("/api/v1/feature-groups/ctr/1/explain").await.ok();
    assert!(explained.to_string().contains("events"), "{explained}");
    let paused = server.post("/api/v1/feature-groups/ctr/1/pause", json!({})).await.ok();
    assert_eq!(paused["status"]["state"], "paused");
    let resumed = server.post("/api/v1/feature-groups/ctr/1/resume", json!({})).await.ok();
    assert_ne!(resumed["status"]["state"], "paused");
    let stream = server.get("/api/v1/streams/events").await.ok();
    assert_eq!(stream["partitions_detail"], json!([{"partition": 0, "start": 0, "end": 6}]));
    assert_eq!(stream["groups"][0]["name"], "ctr");
    let ready = server.get("/ready").await.ok();
    assert_eq!((&ready["ready"], &ready["checks"]["store"]), (&json!(true), &json!("ok")));
    assert!(ready["checks"]["pipelines"].as_str().unwrap().starts_with("1 "), "{ready}");
    for path in
        ["/api/v1/feature-views/fv/1", "/api/v1/feature-groups/ctr/1?purge=true", "/api/v1/streams/events"]
    {
        assert_eq!(server.delete(path).await.status, 204, "{path}");
    }
    for (path, name) in
        [("streams", "streams"), ("feature-groups", "feature_groups"), ("feature-views", "feature_views")]
    {
        assert_eq!(server.get(&format!("/api/v1/{path}")).await.ok()[name], json!([]), "{path}");
    }
}
