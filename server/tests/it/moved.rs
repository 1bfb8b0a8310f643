//! A stream whose definition changes while a pipeline reads it.

use serde_json::json;

use crate::harness::{CTR, Server, event, events};

#[tokio::test]
async fn a_stream_moves_to_another_schema_and_ends_while_a_group_reads_it() {
    let server = Server::start().await;
    server.events("historical").await;
    server.post("/api/v1/feature-groups", json!({"name": "ctr", "sql": CTR})).await.ok();
    server.append(json!([event("u1", 1, 10, "2024-05-01T12:00:00Z")])).await;
    let mut wider = events("historical");
    let page = json!({"name": "page", "type": ["null", "string"], "default": null});
    wider["schema"]["fields"].as_array_mut().unwrap().push(page);
    let moved = server.post("/api/v1/streams", wider.clone()).await.ok();
    assert_eq!(moved["columns"].as_array().unwrap().len(), 5);
    let mut row = event("u1", 1, 10, "2024-05-01T12:01:00Z");
    row["page"] = json!("/");
    server.append(json!([row, event("u2", 0, 5, "2024-05-01T12:02:00Z")])).await;
    server.finish("ctr", 2).await;
    let rows = server.get("/api/v1/feature-groups/ctr/1/rows").await.ok();
    let ctr = |user: &str| {
        rows["rows"].as_array().unwrap().iter().find(|r| r["user_id"] == user).unwrap()["ctr"].clone()
    };
    assert_eq!((ctr("u1"), ctr("u2")), (json!(0.1), json!(0.0)));
    // What a running pipeline has taken for granted does not change under it.
    for (option, value) in [
        ("watermark_delay", json!(60)),
        ("on_bad_record", json!("halt")),
        ("idle_timeout", json!(1)),
        ("max_future_skew", json!(1)),
        ("time", json!("live")),
    ] {
        let mut other = wider.clone();
        other[option] = value;
        let refused = server.post("/api/v1/streams", other).await;
        assert_eq!(refused.error(), (409, "conflict".to_owned()), "{option}");
    }
}

#[tokio::test]
async fn a_group_begins_where_an_instant_says() {
    let server = Server::start().await;
    server.events("historical").await;
    server.append(json!([event("before", 1, 1, "2024-05-01T12:00:00Z")])).await;
    // Appends are told apart by the wall clock.
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let instant = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    server.append(json!([event("after", 1, 2, "2024-05-01T12:00:01Z")])).await;
    for (name, start, first) in [
        ("from_then", instant.as_str(), 1),
        ("from_long_ago", "2020-01-01T00:00:00Z", 0),
        ("from_some_day", "2999-01-01T00:00:00Z", 2),
    ] {
        let group = json!({"name": name, "sql": CTR, "start": start});
        let group = server.post("/api/v1/feature-groups", group).await.ok();
        assert_eq!(group["sources"][0]["start"], json!([first]), "{name}");
    }
    server.finish("from_then", 1).await;
    let rows = server.get("/api/v1/feature-groups/from_then/1/rows").await.ok();
    let users: Vec<_> = rows["rows"].as_array().unwrap().iter().map(|r| r["user_id"].clone()).collect();
    assert_eq!(users, [json!("after")]);
    // Resolved once: the same definition later is the same group.
    let again = json!({"name": "from_then", "sql": CTR, "start": instant});
    assert_eq!(server.post("/api/v1/feature-groups", again).await.status, 200);
}
