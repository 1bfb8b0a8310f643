//! The OpenAPI document and its page.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::Server;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");

#[test]
fn the_committed_document_is_what_the_code_says() {
    let now = format!("{}\n", millpond::http::openapi_json());
    if std::env::var_os("MILLPOND_UPDATE").is_some() {
        std::fs::write(FILE, &now).unwrap();
    }
    let committed = std::fs::read_to_string(FILE).unwrap_or_default();
    assert!(
        committed == now,
        "server/openapi.json is old: run the tests with MILLPOND_UPDATE=1, or millpond openapi > server/openapi.json"
    );
}

#[tokio::test]
async fn the_page_works_without_a_network() {
    let server = Server::start().await;
    let page = server.get("/docs/").await;
    let html = String::from_utf8(page.body.to_vec()).unwrap();
    assert!(html.contains("swagger-ui"), "{html}");
    assert!(!html.contains("//unpkg") && !html.contains("//cdn"), "nothing comes from elsewhere: {html}");
    for file in ["swagger-ui-bundle.js", "swagger-ui.css", "swagger-initializer.js"] {
        assert_eq!(server.get(&format!("/docs/{file}")).await.status, 200, "{file}");
    }
    let document = server.get("/openapi.json").await.ok();
    assert_eq!(document, serde_json::from_str::<Value>(&millpond::http::openapi_json()).unwrap());
    let compressed = server.request("GET", "/openapi.json", &[("accept-encoding", "gzip")], "").await;
    assert_eq!(compressed.headers["content-encoding"], "gzip");
    assert!(compressed.body.len() < document.to_string().len() / 4);
    let rows = server.request("GET", "/api/v1/streams", &[("accept-encoding", "gzip")], "").await;
    assert!(!rows.headers.contains_key("content-encoding"), "only what browsers read");
}

/// Every operation says what can go wrong, and can be tried from the page.
#[test]
fn operations_are_complete() {
    let document: Value = serde_json::from_str(&millpond::http::openapi_json()).unwrap();
    let mut names = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let what = format!("{method} {path}");
            assert!(
                names.insert(operation["operationId"].as_str().unwrap().to_owned()),
                "{what}: a name of its own"
            );
            assert!(!operation["summary"].as_str().unwrap_or_default().is_empty(), "{what}: no summary");
            if path.starts_with("/api/") {
                for status in ["400", "401", "403", "429", "500", "503"] {
                    assert!(operation["responses"].get(status).is_some(), "{what}: no {status}");
                }
            }
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let name = &parameter["name"];
                assert!(
                    parameter["in"] != "path" || parameter.get("example").is_some(),
                    "{what}: no example for {name}"
                );
            }
        }
    }
    assert!(names.len() >= 35, "{} operations", names.len());
    for reference in references(&document) {
        let pointer = reference.trim_start_matches('#');
        assert!(document.pointer(pointer).is_some(), "{reference} points nowhere");
    }
}

fn references(value: &Value) -> Vec<String> {
    match value {
        Value::Object(members) => members
            .iter()
            .flat_map(|(name, member)| match member {
                Value::String(to) if name == "$ref" => vec![to.clone()],
                member => references(member),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

/// What the page sends when `Execute` is pressed without changing anything.
#[tokio::test]
async fn every_example_can_be_executed_from_the_page() {
    let server = Server::start().await;
    let document: Value = serde_json::from_str(&millpond::http::openapi_json()).unwrap();
    let mut operations: Vec<(&str, &str, &Value)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().unwrap().iter().map(move |(m, o)| (path.as_str(), m.as_str(), o))
        })
        // A table cannot be typed into a page.
        .filter(|(.., o)| o["operationId"] != "training_data")
        .collect();
    let first = [
        "create_stream",
        "create_feature_group",
        "create_feature_view",
        "append_records",
        "heartbeat",
        "finish_stream",
        "wait_feature_group",
    ];
    let last = ["drop_feature_view", "drop_feature_group", "drop_stream"];
    operations.sort_by_key(|(.., operation)| {
        let name = operation["operationId"].as_str().unwrap();
        let at = |list: &[&str]| list.iter().position(|n| *n == name);
        at(&first).or_else(|| at(&last).map(|n| 1_000 + n)).unwrap_or(100)
    });
    for (path, method, operation) in operations {
        let mut path = path.to_owned();
        let mut query = Vec::new();
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let name = parameter["name"].as_str().unwrap();
            let Some(example) = parameter.get("example") else { continue };
            let text = example.as_str().map_or_else(|| example.to_string(), str::to_owned);
            match parameter["in"].as_str().unwrap() {
                "path" => path = path.replace(&format!("{{{name}}}"), &text),
                "query" => query.push(format!("{name}={text}")),
                _ => {}
            }
        }
        let path = format!("{path}?{}", query.join("&"));
        let content = &operation["requestBody"]["content"]["application/json"];
        let body = if content.is_null() { String::new() } else { content["example"].to_string() };
        let headers = [("content-type", "application/json"), ("accept", "application/json")];
        let method = method.to_uppercase();
        let reply = server.request(&method, &path, &headers, body).await;
        let text = String::from_utf8_lossy(&reply.body);
        assert!((200..300).contains(&reply.status), "{method} {path}: {} {text}", reply.status);
        if operation["operationId"] == "vectors" {
            assert_eq!(
                reply.json()["vectors"][0]["values"],
                serde_json::json!([0.05]),
                "the page shows a value"
            );
        }
    }
}
