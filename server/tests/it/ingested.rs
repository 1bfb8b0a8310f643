//! Rows into an ingested group, and out of it again.

use serde_json::{Value, json};

use crate::harness::Server;

async fn group(server: &Server, key: &[&str]) {
    let spec = json!({"name": "profile", "primary_key": key, "event_time": "ts", "time": "historical", "features": [
        {"name": "user_id", "type": "string"}, {"name": "shop", "type": "bigint"},
        {"name": "score", "type": "double"}, {"name": "ts", "type": "timestamp"}
    ]});
    server.post("/api/v1/feature-groups", spec).await.ok();
    let view = json!({"name": "fv", "labels": ["label"], "query": {"feature_group": {"name": "profile"}, "features": ["score"]}});
    server.post("/api/v1/feature-views", view).await.ok();
}

fn row(user: &str, shop: i64, score: f64, minute: u32) -> Value {
    json!({"user_id": user, "shop": shop, "score": score, "ts": format!("2024-05-01T12:{minute:02}:00Z")})
}

/// Appends and waits until it is committed.
async fn append(server: &Server, body: Value) {
    let appended = server.post("/api/v1/streams/profile_1/records", body).await.ok();
    let position = appended["position"].as_str().unwrap();
    let wait = format!("/api/v1/feature-groups/profile/1/wait?timeout=30&position={position}");
    server.post(&wait, json!({})).await.ok();
}

#[tokio::test]
async fn a_tombstone_deletes_online_in_the_history_and_in_training() {
    let server = Server::start().await;
    group(&server, &["user_id"]).await;
    append(&server, json!({"rows": [row("a", 1, 0.5, 0), row("b", 1, 0.25, 1)]})).await;
    append(&server, json!({"tombstones": ["a"]})).await;

    let vectors = async || {
        let body = json!({"entries": [{"user_id": "a"}, {"user_id": "b"}], "metadata": true});
        server.post("/api/v1/feature-views/fv/1/vectors", body).await.ok()["vectors"].clone()
    };
    let gone = vectors().await;
    assert_eq!((&gone[0]["values"], &gone[0]["status"]), (&json!([null]), &json!("missing")));
    assert_eq!(gone[0]["groups"][0]["status"], json!("deleted"), "{gone}");
    assert_eq!((&gone[1]["values"], &gone[1]["status"]), (&json!([0.25]), &json!("complete")));

    let online = server.get("/api/v1/feature-groups/profile/1/rows/a").await.ok();
    assert_eq!(
        (&online["latest"]["_op"], &online["latest"]["score"], &online["latest"]["user_id"]),
        (&json!("delete"), &Value::Null, &json!("a"))
    );
    assert_eq!(online["latest"]["_event_time"], json!("2024-05-01T12:01:00Z"));
    assert_eq!((&online["previous"]["_op"], &online["previous"]["score"]), (&json!("upsert"), &json!(0.5)));

    let history = server.until("/api/v1/feature-groups/profile/1/history", |_| true).await;
    let ops: Vec<(&Value, &Value)> =
        history["rows"].as_array().unwrap().iter().map(|r| (&r["user_id"], &r["_op"])).collect();
    let (a, b, upsert, delete) = (json!("a"), json!("b"), json!("upsert"), json!("delete"));
    assert_eq!(ops, [(&a, &upsert), (&b, &upsert), (&a, &delete)]);

    // The row is joined before the delete and not after it.
    let data = server.post("/api/v1/feature-views/fv/1/batch-data", json!({"primary_key": true})).await.ok();
    let users: Vec<&Value> = data["rows"].as_array().unwrap().iter().map(|r| &r["user_id"]).collect();
    assert_eq!(users, [&a, &b], "a delete is no row of batch data: {data}");

    append(&server, json!({"rows": [row("a", 1, 0.75, 2)]})).await;
    assert_eq!(vectors().await[0]["values"], json!([0.75]), "a later event is a value again");
    let account = server.get("/api/v1/streams/profile_1/accounting").await.ok()["groups"][0].clone();
    assert_eq!(
        (&account["tombstones"], &account["applied"], &account["balanced"]),
        (&json!(1), &json!(3), &json!(true))
    );
}

#[tokio::test]
async fn a_compound_key_is_deleted_as_an_array() {
    let server = Server::start().await;
    group(&server, &["user_id", "shop"]).await;
    let rows = json!([row("[a", 1, 0.5, 0), row("[a", 2, 0.25, 0)]);
    append(&server, json!({"rows": rows, "tombstones": [["[a", 2]]})).await;
    let rows = server.get("/api/v1/feature-groups/profile/1/rows").await.ok()["rows"].clone();
    let ops: Vec<(&Value, &Value)> =
        rows.as_array().unwrap().iter().map(|r| (&r["shop"], &r["_op"])).collect();
    assert_eq!(ops, [(&json!(1), &json!("upsert")), (&json!(2), &json!("delete"))]);
}

#[tokio::test]
async fn tombstones_that_are_no_keys_are_named_and_nothing_is_appended() {
    let server = Server::start().await;
    group(&server, &["user_id", "shop"]).await;
    for (wrong, count) in [
        (json!(["a"]), 1),
        (json!([["a", 1], ["a"], ["a", "x"], null, {"user_id": "a"}]), 4),
        (json!([["a", 1, 2], ["a", null], [1, 1]]), 3),
    ] {
        let body = json!({"rows": [row("a", 1, 0.5, 0)], "tombstones": wrong});
        let reply = server.post("/api/v1/streams/profile_1/records", body).await;
        assert_eq!(reply.error(), (422, "invalid_rows".to_owned()), "{wrong}");
        let rows = reply.json()["error"]["details"].clone();
        assert_eq!(rows.as_array().map(Vec::len), Some(count), "{rows}");
        assert!(rows.as_array().unwrap().iter().all(|r| r["field"] == "tombstones"), "{rows}");
    }
    let reply = server.post("/api/v1/streams/profile_1/records", json!({"tombstones": "a"})).await;
    assert_eq!(reply.error().0, 400);
    let records = server.get("/api/v1/streams/profile_1/records").await.ok();
    assert_eq!(records["records"], json!([]));
}

#[tokio::test]
async fn what_exists_or_is_refused_uses_up_no_identity_and_leaves_no_log() {
    let server = Server::start().await;
    let refused = json!({"name": "profile", "primary_key": ["score"], "event_time": "ts", "features": [
        {"name": "score", "type": "double"}, {"name": "ts", "type": "timestamp"}
    ]});
    let reply = server.post("/api/v1/feature-groups", refused).await;
    assert_eq!(reply.error(), (400, "invalid_request".to_owned()), "a key that is a float");
    assert_eq!(server.get("/api/v1/streams").await.ok()["streams"], json!([]));
    for _ in 0..3 {
        group(&server, &["user_id"]).await;
    }
    let sql = "SELECT user_id, MEDIAN(score) OVER () AS m FROM profile_1";
    assert_eq!(server.post("/api/v1/feature-groups", json!({"name": "g", "sql": sql})).await.status, 422);
    let log = server.get("/api/v1/streams/profile_1").await.ok();
    let id = log["id"].as_u64().unwrap();
    let of = async |path: &str| server.get(path).await.ok()["id"].clone();
    assert_eq!(of("/api/v1/feature-groups/profile/1").await, json!(id + 1));
    assert_eq!(server.events("live").await["id"], json!(id + 3), "the view's is the one between");
}
