//! Each code of the closed set that a request can bring about.

use axum::body::Body;
use millpond::log::position::Position;
use serde_json::{Value, json};

use crate::harness::{CTR, Server, event, events};

async fn refused(server: &Server, path: &str, body: Value) -> (u16, String) {
    server.post(path, body).await.error()
}

fn with(mut base: Value, name: &str, value: Value) -> Value {
    base[name] = value;
    base
}

#[tokio::test]
async fn requests_that_cannot_be_read() {
    let server = Server::start().await;
    let streams = "/api/v1/streams";
    let invalid = (400, "invalid_request".to_owned());
    assert_eq!(refused(&server, streams, json!({"name": "events"})).await, invalid, "a field is missing");
    assert_eq!(refused(&server, streams, with(events("live"), "name", json!("No Name"))).await, invalid);
    assert_eq!(refused(&server, streams, with(events("live"), "partitions", json!(0))).await, invalid);
    let unknown = server.post(streams, with(events("live"), "nmae", json!(1))).await;
    assert_eq!(unknown.error(), invalid);
    assert!(unknown.json()["error"]["message"].as_str().unwrap().contains("nmae"), "the field is named");
    let json = [("content-type", "application/json")];
    assert_eq!(server.request("POST", streams, &json, "{").await.error(), invalid);
    assert_eq!(server.request("POST", streams, &[], "{}").await.error(), invalid, "not labelled as JSON");
    server.events("live").await;
    assert_eq!(refused(&server, "/api/v1/streams/events/records", json!({"row": []})).await, invalid);
    assert_eq!(server.get("/api/v1/streams/events/records?partition=x").await.error(), invalid);
    assert_eq!(server.get("/api/v1/streams/events/quarantine?after=x").await.error(), invalid);
    assert_eq!(refused(&server, "/api/v1/streams/events/heartbeat", json!({"time": "soon"})).await, invalid);
    assert_eq!(refused(&server, "/api/v1/streams/events/finish", json!({"position": "x"})).await, invalid);
    let frames = [("content-type", "application/vnd.millpond.avro")];
    let cut = server.request("POST", "/api/v1/streams/events/records", &frames, vec![0, 0, 0, 9, 1]).await;
    assert_eq!(cut.error(), invalid);
    let lonely = [("content-type", "application/json"), ("millpond-sequence", "1")];
    assert_eq!(
        server.request("POST", "/api/v1/streams/events/records", &lonely, "[]").await.error(),
        invalid
    );
}

#[tokio::test]
async fn what_is_not_there() {
    let server = Server::start().await;
    let missing = (404, "not_found".to_owned());
    for path in [
        "/api/v1/streams/nothing",
        "/api/v1/feature-groups/nothing/1",
        "/api/v1/feature-groups/nothing/1/history",
        "/api/v1/feature-views/nothing/1",
        "/api/v1/feature-views/nothing/1/vector",
        "/api/v1/nothing",
        "/nothing",
    ] {
        assert_eq!(server.get(path).await.error(), missing, "{path}");
    }
    assert_eq!(server.request("PUT", "/api/v1/streams", &[], Body::empty()).await.error(), missing);
    assert_eq!(
        refused(&server, "/api/v1/feature-groups", json!({"name": "g", "sql": CTR})).await.0,
        404,
        "no stream"
    );
    server.events("live").await;
    assert_eq!(server.get("/api/v1/streams/events/records?partition=1").await.error(), missing);
    let known = server.get("/api/v1/streams/evnts").await;
    assert!(known.json()["error"]["hint"].as_str().unwrap().contains("events"), "what there is instead");
}

#[tokio::test]
async fn what_is_another_or_in_use() {
    let server = Server::start().await;
    let conflict = (409, "conflict".to_owned());
    assert_eq!(server.post("/api/v1/streams", events("live")).await.status, 201);
    assert_eq!(server.post("/api/v1/streams", events("live")).await.status, 200, "the same definition");
    let other = server.post("/api/v1/streams", with(events("live"), "watermark_delay", json!(5))).await;
    assert_eq!(other.error(), conflict);
    assert!(other.json()["error"]["details"]["diff"][0].as_str().unwrap().contains("watermark_delay"));
    let group = json!({"name": "ctr", "sql": CTR});
    assert_eq!(server.post("/api/v1/feature-groups", group.clone()).await.status, 201);
    assert_eq!(server.post("/api/v1/feature-groups", group.clone()).await.status, 200);
    let other = with(group, "sql", json!(CTR.replace("SUM(clicks)", "COUNT(*)")));
    assert_eq!(refused(&server, "/api/v1/feature-groups", other).await, conflict);
    let view = json!({"name": "fv", "query": {"feature_group": {"name": "ctr"}}});
    assert_eq!(server.post("/api/v1/feature-views", view.clone()).await.status, 201);
    assert_eq!(server.post("/api/v1/feature-views", view.clone()).await.status, 200);
    let other = with(view, "labels", json!(["y"]));
    assert_eq!(refused(&server, "/api/v1/feature-views", other).await, conflict);
    assert_eq!(server.delete("/api/v1/streams/events").await.error(), conflict);
    assert_eq!(server.delete("/api/v1/feature-groups/ctr/1").await.error(), conflict);
    assert_eq!(server.delete("/api/v1/feature-groups/ctr/1?force=true").await.status, 204);
    assert_eq!(server.get("/api/v1/feature-views/fv/1").await.status, 404, "it went with its group");
    assert_eq!(server.delete("/api/v1/streams/events").await.status, 204);
}

#[tokio::test]
async fn a_producer_is_heard_once() {
    let server = Server::start().await;
    server.events("live").await;
    let send = async |sequence: &str, body: &str| {
        let headers = [
            ("content-type", "application/json"),
            ("millpond-producer-id", "p"),
            ("millpond-sequence", sequence),
        ];
        server.request("POST", "/api/v1/streams/events/records", &headers, body.to_owned()).await
    };
    let one = json!([event("u", 1, 1, "2026-01-01T00:00:00Z")]).to_string();
    let two = json!([event("u", 0, 1, "2026-01-01T00:00:01Z")]).to_string();
    let first = send("1", &one).await.ok();
    assert_eq!(send("1", &one).await.ok(), first, "the same reply");
    assert_eq!(send("3", &two).await.error(), (409, "sequence_conflict".to_owned()), "a gap");
    let second = send("2", &two).await.ok();
    assert_ne!(first, second);
    let stale = send("1", &one).await;
    assert_eq!(stale.error(), (409, "sequence_conflict".to_owned()));
    assert_eq!(stale.json()["error"]["details"], json!({"last_sequence": 2}));
    let records = server.get("/api/v1/streams/events/records").await.ok();
    assert_eq!(records["records"].as_array().unwrap().len(), 2, "each batch once");
}

#[tokio::test]
async fn rows_are_taken_all_or_none() {
    let server = Server::start().await;
    server.events("live").await;
    let good = event("u", 1, 1, "2026-01-01T00:00:00Z");
    let rows =
        json!([good, with(good.clone(), "clicks", json!("many")), with(good.clone(), "extra", json!(1))]);
    let reply = server.post("/api/v1/streams/events/records", json!({ "rows": rows })).await;
    assert_eq!(reply.error(), (422, "invalid_rows".to_owned()));
    let details = reply.json()["error"]["details"].clone();
    assert_eq!((&details[0]["row"], &details[0]["field"]), (&json!(1), &json!("clicks")));
    assert_eq!((&details[1]["row"], &details[1]["field"]), (&json!(2), &json!("extra")));
    assert_eq!(server.get("/api/v1/streams/events/records").await.ok()["records"], json!([]));
}

#[tokio::test]
async fn definitions_that_are_refused() {
    let server = Server::start().await;
    let union = json!({"type": "record", "name": "E", "fields": [
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "odd", "type": ["int", "string"]}
    ]});
    let stream = json!({"name": "odd", "schema": union, "event_time": "ts"});
    let reply = server.post("/api/v1/streams", stream).await;
    assert_eq!(reply.error(), (422, "invalid_schema".to_owned()));
    assert!(reply.json()["error"]["message"].as_str().unwrap().contains("odd"), "the field is named");
    server.events("live").await;
    let sql = format!("{CTR} ORDER BY user_id");
    let reply = server.post("/api/v1/feature-groups", json!({"name": "g", "sql": sql})).await;
    assert_eq!(reply.error(), (422, "invalid_sql".to_owned()));
    assert_eq!(reply.json()["error"]["details"]["construct"], "ORDER BY");
}

#[tokio::test]
async fn what_this_group_cannot_do() {
    let server = Server::start().await;
    server.events("live").await;
    let group = json!({"name": "offline", "sql": CTR, "online_enabled": false});
    server.post("/api/v1/feature-groups", group).await.ok();
    let reply = server.get("/api/v1/feature-groups/offline/1/rows").await;
    assert_eq!(reply.error(), (422, "unsupported".to_owned()));
    server.post("/api/v1/feature-groups/offline/1/pause", json!({})).await.ok();
    let position = server.append(json!([event("u", 1, 1, "2026-01-01T00:00:00Z")])).await;
    let wait = format!("/api/v1/feature-groups/offline/1/wait?timeout=5&position={position}");
    assert_eq!(server.post(&wait, json!({})).await.error(), (422, "unsupported".to_owned()), "it is paused");
}

#[tokio::test]
async fn what_takes_too_long_or_too_much() {
    let server = Server::with(|config| {
        config.http.max_body_bytes = 2_000;
        config.http.max_upload_bytes = 10;
    })
    .await;
    let stream = server.events("live").await;
    server.post("/api/v1/feature-groups", json!({"name": "ctr", "sql": CTR})).await.ok();
    let ahead = Position { stream: stream["uuid"].as_str().unwrap().parse().unwrap(), offsets: vec![1_000] };
    let wait = format!("/api/v1/feature-groups/ctr/1/wait?timeout=0.1&position={ahead}");
    assert_eq!(server.post(&wait, json!({})).await.error(), (504, "timeout".to_owned()));
    let rows: Vec<Value> = (0..50).map(|_| event("u", 1, 1, "2026-01-01T00:00:00Z")).collect();
    let large = (413, "payload_too_large".to_owned());
    assert_eq!(refused(&server, "/api/v1/streams/events/records", json!({ "rows": rows })).await, large);
    server
        .post("/api/v1/feature-views", json!({"name": "fv", "query": {"feature_group": {"name": "ctr"}}}))
        .await
        .ok();
    let arrow = [("content-type", crate::harness::ARROW)];
    let path = "/api/v1/feature-views/fv/1/training-data?event_time=timestamp";
    assert_eq!(server.request("POST", path, &arrow, vec![0; 11]).await.error(), large);
    assert_eq!(server.request("POST", path, &arrow, vec![0; 9]).await.error().0, 400, "not a table");
}

#[tokio::test]
async fn a_full_server_says_so() {
    let server = Server::with(|config| config.http.max_in_flight = 0).await;
    let reply = server.get("/api/v1/streams").await;
    assert_eq!(reply.error(), (429, "too_many_requests".to_owned()));
    assert_eq!(reply.headers["retry-after"], "1");
    assert_eq!(server.get("/ready").await.status, 200);
}

#[tokio::test]
async fn brokers_that_are_not_there() {
    let topic = || with(events("live"), "topic", json!("events"));
    let server = Server::start().await;
    assert_eq!(
        refused(&server, "/api/v1/streams", topic()).await,
        (422, "unsupported".to_owned()),
        "none configured"
    );
    let server = Server::with(|config| config.kafka.bootstrap_servers = Some("127.0.0.1:1".to_owned())).await;
    let reply = server.post("/api/v1/streams", topic()).await;
    assert_eq!(reply.error(), (503, "unavailable".to_owned()));
    assert_eq!(reply.headers["retry-after"], "5");
    assert_eq!(server.get("/api/v1/streams").await.ok()["streams"], json!([]), "nothing is left behind");
}
