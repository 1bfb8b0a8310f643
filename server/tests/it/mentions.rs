//! A group that mentions a stream twice reads it twice: each mention has its place, its offsets, its account.

use serde_json::{Value, json};

use crate::harness::{Server, event};

/// What was clicked and what was shown, as rows of their own.
const BOTH: &str = "WITH both AS ( \
      SELECT user_id, clicks AS n, timestamp FROM events WHERE clicks > 0 \
      UNION ALL \
      SELECT user_id, impressions AS n, timestamp FROM events) \
    SELECT user_id, SUM(n) AS n, COUNT(*) AS k \
    FROM TUMBLE(both, DESCRIPTOR(timestamp), INTERVAL '5' MINUTES) GROUP BY user_id, window_end";

async fn twice() -> Server {
    let server = Server::start().await;
    server.events("historical").await;
    server.append(json!([event("u0", 1, 1, "2024-05-01T11:00:00Z")])).await;
    server
        .post("/api/v1/feature-groups", json!({"name": "twice", "sql": BOTH, "start": "latest"}))
        .await
        .ok();
    server
        .append(json!([
            event("u1", 0, 10, "2024-05-01T12:00:00Z"),
            event("u1", 2, 10, "2024-05-01T12:01:00Z"),
            event("u2", 3, 7, "2024-05-01T12:02:00Z"),
        ]))
        .await;
    let frames = [("content-type", "application/vnd.millpond.avro")];
    let junk = vec![0, 0, 0, 4, 0xff, 1, 2, 3];
    server.request("POST", "/api/v1/streams/events/records", &frames, junk).await.ok();
    server.finish("twice", 2).await;
    server
}

#[tokio::test]
async fn every_mention_of_a_stream_has_its_own_place() {
    let server = twice().await;
    let group = server.get("/api/v1/feature-groups/twice/1").await.ok();
    let sources = group["sources"].as_array().unwrap();
    assert_eq!(sources.len(), 2);
    for source in sources {
        // What was there before the group is for neither, what came after for both.
        assert_eq!((&source["stream"], &source["start"]), (&json!("events"), &json!([1])));
        assert_eq!((&source["positions"], &source["lag"]), (&json!([5]), &json!(0)));
    }
    let rows = server.get("/api/v1/feature-groups/twice/1/rows").await.ok();
    let of = |user: &str| {
        let rows = rows["rows"].as_array().unwrap();
        let row = rows.iter().find(|r| r["user_id"] == user).unwrap();
        (row["n"].clone(), row["k"].clone())
    };
    assert_eq!(of("u1"), (json!(22), json!(3)));
    assert_eq!(of("u2"), (json!(10), json!(2)));
}

#[tokio::test]
async fn every_mention_has_its_own_account_and_a_dead_letter_is_one() {
    let server = twice().await;
    let accounts = server.get("/api/v1/streams/events/accounting").await.ok();
    let of = |account: &Value| {
        ["source", "read", "applied", "filtered", "quarantined"].map(|field| account[field].as_u64().unwrap())
    };
    let accounts: Vec<[u64; 5]> = accounts["groups"].as_array().unwrap().iter().map(of).collect();
    assert_eq!(accounts, [[0, 4, 2, 1, 1], [1, 4, 3, 0, 1]]);
    let letters = server.get("/api/v1/streams/events/quarantine").await.ok();
    assert_eq!(letters["records"].as_array().unwrap().len(), 1);
    assert_eq!(letters["by_reason"], json!({"bad_frame": 1}));
}

#[tokio::test]
async fn dead_letters_are_counted_with_their_own_stream() {
    let server = Server::start().await;
    let stream = |name: &str| {
        let mut spec = crate::harness::events("historical");
        spec["name"] = json!(name);
        spec
    };
    for name in ["left", "right"] {
        server.post("/api/v1/streams", stream(name)).await.ok();
    }
    let sql = "WITH both AS (SELECT user_id, timestamp FROM \"left\" UNION ALL SELECT user_id, timestamp FROM \"right\") \
        SELECT user_id, COUNT(*) AS n FROM TUMBLE(both, DESCRIPTOR(timestamp), INTERVAL '5' MINUTES) \
        GROUP BY user_id, window_end";
    server.post("/api/v1/feature-groups", json!({"name": "both", "sql": sql})).await.ok();
    let frames = [("content-type", "application/vnd.millpond.avro")];
    for (name, n) in [("left", 1), ("right", 2)] {
        let junk = [0, 0, 0, 1, 0xff].repeat(n);
        server.request("POST", &format!("/api/v1/streams/{name}/records"), &frames, junk).await.ok();
    }
    for (name, n) in [("left", 1), ("right", 2)] {
        let letters = server
            .until(&format!("/api/v1/streams/{name}/quarantine"), |letters| {
                letters["records"].as_array().unwrap().len() == n
            })
            .await;
        assert_eq!(letters["by_reason"], json!({ "bad_frame": n }), "{name}");
    }
}
