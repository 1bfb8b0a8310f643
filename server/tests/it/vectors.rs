//! Vectors over several live groups: joins, TTL, positions.

use chrono::{SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::harness::{Server, event};

fn sql(column: &str, seconds: u32) -> String {
    format!(
        "SELECT user_id, {column} FROM TUMBLE(events, DESCRIPTOR(timestamp), INTERVAL '{seconds}' SECONDS) GROUP BY user_id, window_end"
    )
}

/// Seconds ago, as events and heartbeats carry it.
fn ago(seconds: i64) -> String {
    (Utc::now() - TimeDelta::seconds(seconds)).to_rfc3339_opts(SecondsFormat::Millis, true)
}

async fn live() -> Server {
    let server = Server::start().await;
    server.events("live").await;
    for (name, column, ttl) in
        [("a", "SUM(clicks) AS clicks", Value::Null), ("b", "COUNT(*) AS n", json!(20))]
    {
        let group = json!({"name": name, "sql": sql(column, 1), "ttl": ttl});
        assert_eq!(server.post("/api/v1/feature-groups", group).await.ok()["time"], "live");
    }
    let view = json!({"name": "fv", "query": {
        "feature_group": {"name": "a"},
        "joins": [{"query": {"feature_group": {"name": "b"}}, "prefix": "b_"}]
    }});
    server.post("/api/v1/feature-views", view).await.ok();
    server
}

async fn vectors(server: &Server, body: Value) -> Value {
    server.post("/api/v1/feature-views/fv/1/vectors", body).await.ok()
}

#[tokio::test]
async fn a_vector_joins_its_groups_and_a_ttl_takes_one_away() {
    let server = live().await;
    server
        .append(json!([
            event("old", 1, 1, &ago(60)),
            event("new", 2, 1, &ago(5)),
            event("new", 3, 1, &ago(5))
        ]))
        .await;
    let beat = server.post("/api/v1/streams/events/heartbeat", json!({"time": ago(1)})).await.ok();
    let entries = json!([{"user_id": "new"}, {"user_id": "old"}, {"user_id": "none"}]);
    let body = json!({"entries": entries, "min_position": beat["position"], "metadata": true});
    let reply = vectors(&server, body).await;
    assert_eq!(reply["features"], json!(["clicks", "b_n"]));
    let parts: Vec<(&Value, &Value)> =
        reply["vectors"].as_array().unwrap().iter().map(|v| (&v["values"], &v["status"])).collect();
    assert_eq!(parts[1], (&json!([1, null]), &json!("partial")), "{reply}");
    assert_eq!(parts[2], (&json!([null, null]), &json!("missing")));
    assert_eq!(parts[0].1, "complete");
    let statuses: Vec<&Value> =
        reply["vectors"][1]["groups"].as_array().unwrap().iter().map(|g| &g["status"]).collect();
    assert_eq!(statuses, [&json!("found"), &json!("expired")]);
    let as_of = reply["as_of"].as_str().unwrap();
    assert!(as_of > ago(30).as_str() && as_of <= ago(-1).as_str(), "one instant for all: {as_of}");
}

#[tokio::test]
async fn all_features_are_those_that_are_neither_key_nor_event_time() {
    let server = live().await;
    let group = json!({"name": "c", "sql": sql("window_start, window_end, COUNT(*) AS n", 1)});
    server.post("/api/v1/feature-groups", group).await.ok();
    for (view, features, expected) in [
        ("all", Value::Null, json!(["window_start", "n"])),
        ("named", json!(["n", "window_end"]), json!(["n", "window_end"])),
    ] {
        let query = json!({"feature_group": {"name": "c"}, "features": features});
        server.post("/api/v1/feature-views", json!({"name": view, "query": query})).await.ok();
        let path = format!("/api/v1/feature-views/{view}/1/vectors");
        let reply = server.post(&path, json!({"entries": [{"user_id": "u"}]})).await.ok();
        assert_eq!(reply["features"], expected);
    }
}

#[tokio::test]
async fn many_entries_and_the_limit() {
    let server = live().await;
    let users: Vec<Value> = (0..1_000).map(|i| json!({"user_id": format!("u{i}")})).collect();
    let reply = vectors(&server, json!({ "entries": users })).await;
    assert_eq!(reply["vectors"].as_array().unwrap().len(), 1_000);
    let more: Vec<Value> = (0..1_001).map(|i| json!({"user_id": format!("u{i}")})).collect();
    let path = "/api/v1/feature-views/fv/1/vectors";
    let invalid = (400, "invalid_request".to_owned());
    assert_eq!(server.post(path, json!({ "entries": more })).await.error(), invalid);
    assert_eq!(server.post(path, json!({"entries": [{"user": "u"}]})).await.error(), invalid, "not the key");
    assert_eq!(
        server.post(path, json!({"entries": [{"user_id": 7}]})).await.error(),
        invalid,
        "not its type"
    );
    assert_eq!(server.post(path, json!({"entries": [{"user_id": null}]})).await.error(), invalid);
    assert_eq!(server.post(path, json!({"entries": [], "max_age": -1})).await.error(), invalid);
    assert_eq!(server.post(path, json!({"entries": [], "min_position": "x"})).await.error(), invalid);
    assert_eq!(server.get("/api/v1/feature-views/fv/1/vector?user=u").await.error(), invalid);
    assert_eq!(vectors(&server, json!({"entries": []})).await["vectors"], json!([]));
}
