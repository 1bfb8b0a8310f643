#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, header};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::config::SchemaRegistry;
use crate::store::{Options, Store};

struct Api {
    router: Router,
    _dir: tempfile::TempDir,
}

impl Api {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &Options::default()).unwrap();
        let registry = Registry::open(&SchemaRegistry::default(), store).unwrap();
        Self { router: Router::new().nest("/schema-registry", router(Arc::new(registry))), _dir: dir }
    }

    /// Status and body; the content type is always the registry's.
    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let request = Request::builder()
            .method(method)
            .uri(format!("/schema-registry{path}"))
            .header(header::CONTENT_TYPE, "application/vnd.schemaregistry.v1+json")
            .body(body.map_or_else(Body::empty, |body| Body::from(body.to_string())))
            .unwrap();
        let reply = self.router.clone().oneshot(request).await.unwrap();
        assert_eq!(reply.headers()[header::CONTENT_TYPE], "application/vnd.schemaregistry.v1+json");
        let status = reply.status().as_u16();
        let bytes = to_bytes(reply.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.call(Method::GET, path, None).await
    }

    async fn post(&self, path: &str, schema: &Value) -> (u16, Value) {
        self.call(Method::POST, path, Some(json!({ "schema": schema.to_string() }))).await
    }

    /// The error code of a failing GET.
    async fn code(&self, path: &str) -> (u16, u64) {
        let (status, body) = self.get(path).await;
        assert!(body["message"].is_string());
        (status, body["error_code"].as_u64().unwrap())
    }
}

fn schema(fields: &Value) -> Value {
    json!({ "type": "record", "name": "E", "fields": fields })
}

fn one() -> Value {
    schema(&json!([{ "name": "a", "type": "int" }]))
}

#[tokio::test]
async fn a_subject_lives_and_dies() {
    let api = Api::new();
    let subject = "/subjects/a%2Fb%20c-value";
    assert_eq!(api.get("/subjects").await, (200, json!([])));
    assert_eq!(api.post(&format!("{subject}/versions"), &one()).await, (200, json!({ "id": 1 })));
    let two = schema(&json!([{ "name": "a", "type": "long" }]));
    assert_eq!(api.post(&format!("{subject}/versions"), &two).await, (200, json!({ "id": 2 })));
    assert_eq!(api.get("/subjects").await, (200, json!(["a/b c-value"])));
    assert_eq!(api.get("/subjects?subjectPrefix=x").await, (200, json!([])));
    assert_eq!(api.get(&format!("{subject}/versions")).await, (200, json!([1, 2])));
    assert_eq!(api.get(&format!("{subject}/versions?offset=1&limit=-1")).await, (200, json!([2])));
    assert_eq!(api.get(&format!("{subject}/versions?limit=1&deleted=False")).await, (200, json!([1])));
    let shown = json!({ "subject": "a/b c-value", "version": 2, "id": 2, "schema": two.to_string() });
    for version in ["2", "latest", "-1"] {
        assert_eq!(api.get(&format!("{subject}/versions/{version}")).await, (200, shown.clone()));
    }
    assert_eq!(api.get(&format!("{subject}/versions/1/schema")).await, (200, one()));
    assert_eq!(api.post(subject, &two).await, (200, shown));
    assert_eq!(api.get("/schemas/ids/1").await, (200, json!({ "schema": one().to_string() })));
    assert_eq!(api.get("/schemas/ids/1/schema").await, (200, one()));
    assert_eq!(api.get("/schemas/ids/1?fetchMaxId=true").await.1["maxId"], 2);
    assert_eq!(api.get("/schemas/ids/2/subjects").await, (200, json!(["a/b c-value"])));
    let versions = json!([{ "subject": "a/b c-value", "version": 2 }]);
    assert_eq!(api.get("/schemas/ids/2/versions").await, (200, versions));
    assert_eq!(api.get("/schemas/types").await, (200, json!(["JSON", "AVRO"])));
    assert_eq!(api.get("/schemas?latestOnly=true").await.1.as_array().unwrap().len(), 1);
    assert_eq!(api.call(Method::DELETE, &format!("{subject}/versions/1"), None).await, (200, json!(1)));
    assert_eq!(api.call(Method::DELETE, subject, None).await, (200, json!([2])));
    assert_eq!(api.get("/subjects").await, (200, json!([])));
    assert_eq!(api.get("/subjects?deleted=true").await, (200, json!(["a/b c-value"])));
    let (status, body) = api.call(Method::DELETE, subject, None).await;
    assert_eq!((status, &body["error_code"]), (404, &json!(40404)));
    assert_eq!(
        api.call(Method::DELETE, &format!("{subject}?permanent=true"), None).await,
        (200, json!([1, 2]))
    );
    assert_eq!(api.get("/schemas/ids/1").await.0, 200, "records may still have the id");
}

#[tokio::test]
async fn errors_are_confluents() {
    let api = Api::new();
    api.post("/subjects/s/versions", &one()).await;
    for (path, expected) in [
        ("/subjects/none/versions", (404, 40401)),
        ("/subjects/none/versions/latest", (404, 40401)),
        ("/subjects/s/versions/9", (404, 40402)),
        ("/subjects/s/versions/0", (422, 42202)),
        ("/subjects/s/versions/first", (422, 42202)),
        ("/schemas/ids/99", (404, 40403)),
        ("/schemas/ids/x", (404, 40403)),
        ("/config/s", (404, 40408)),
        ("/nothing/here", (404, 404)),
    ] {
        assert_eq!(api.code(path).await, expected, "{path}");
    }
    let incompatible = schema(&json!([{ "name": "a", "type": "string" }]));
    let (status, body) = api.post("/subjects/s/versions", &incompatible).await;
    assert_eq!((status, &body["error_code"]), (409, &json!(409)));
    assert!(body["message"].as_str().unwrap().contains("TYPE_MISMATCH: a"));
    let (status, body) = api.post("/subjects/s", &incompatible).await;
    assert_eq!((status, &body["error_code"]), (404, &json!(40403)));
    for bad in [
        json!({ "schema": "{" }),
        json!({ "schema": "\"nothing\"" }),
        json!({ "schema": one().to_string(), "schemaType": "PROTOBUF" }),
        json!({ "schema": "\"int\"", "references": [{ "name": "x", "subject": "y", "version": 1 }] }),
        json!({}),
    ] {
        let (status, body) = api.call(Method::POST, "/subjects/s/versions", Some(bad)).await;
        assert_eq!((status, &body["error_code"]), (422, &json!(42201)));
    }
    let level = Some(json!({ "compatibility": "SIDEWAYS" }));
    let (status, body) = api.call(Method::PUT, "/config", level).await;
    assert_eq!((status, &body["error_code"]), (422, &json!(42203)));
}

#[tokio::test]
async fn levels_are_configured_and_checked() {
    let api = Api::new();
    let put = |level: &str| Some(json!({ "compatibility": level }));
    assert_eq!(api.get("/config").await, (200, json!({ "compatibilityLevel": "BACKWARD" })));
    assert_eq!(
        api.call(Method::PUT, "/config", put("full")).await,
        (200, json!({ "compatibility": "FULL" }))
    );
    assert_eq!(
        api.get("/config/s?defaultToGlobal=true").await,
        (200, json!({ "compatibilityLevel": "FULL" }))
    );
    api.post("/subjects/s/versions", &one()).await;
    let two = schema(&json!([{ "name": "a", "type": "long" }]));
    let check = "/compatibility/subjects/s/versions";
    assert_eq!(api.post(check, &two).await, (200, json!({ "is_compatible": false })));
    assert_eq!(api.post(&format!("{check}/1"), &two).await, (200, json!({ "is_compatible": false })));
    let (_, verbose) = api.post(&format!("{check}/latest?verbose=True"), &two).await;
    assert!(verbose["messages"][0].as_str().unwrap().contains("TYPE_MISMATCH"));
    assert_eq!(api.post(&format!("{check}/7"), &two).await.1["error_code"], 40402);
    assert_eq!(api.call(Method::PUT, "/config/s", put("BACKWARD")).await.0, 200);
    assert_eq!(api.post(check, &two).await, (200, json!({ "is_compatible": true })));
    let level = json!({ "compatibilityLevel": "BACKWARD" });
    assert_eq!(api.call(Method::DELETE, "/config/s", None).await, (200, level));
    assert_eq!(api.post(check, &two).await, (200, json!({ "is_compatible": false })));
    assert_eq!(api.get("/mode").await, (200, json!({ "mode": "READWRITE" })));
    assert_eq!(api.call(Method::PUT, "/mode", Some(json!({ "mode": "READONLY" }))).await.0, 422);
}

#[tokio::test]
async fn an_external_registry_is_not_shown_as_ours() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &Options::default()).unwrap();
    let config =
        SchemaRegistry { url: Some("http://user:secret@127.0.0.1:1".into()), ..SchemaRegistry::default() };
    let registry = Registry::open(&config, store).unwrap();
    let api = Api { router: Router::new().nest("/schema-registry", router(Arc::new(registry))), _dir: dir };
    let (status, body) = api.get("/subjects").await;
    assert_eq!(status, 404);
    let message = body["message"].as_str().unwrap();
    assert!(message.contains("http://127.0.0.1:1") && !message.contains("secret"));
}

#[tokio::test]
async fn references_are_kept_shown_and_protected() {
    let api = Api::new();
    let register = async |subject: &str, body: Value| {
        api.call(Method::POST, &format!("/subjects/{subject}/versions"), Some(body)).await
    };
    let country = json!({"type": "enum", "name": "geo.Country", "symbols": ["PL", "DE"]});
    let reference = json!({"name": "geo.Country", "subject": "country", "version": 1});
    let place =
        json!({"type": "record", "name": "Place", "fields": [{"name": "country", "type": "geo.Country"}]});
    let body = json!({"schema": place.to_string(), "references": [reference]});
    let (status, refused) = register("place-value", body.clone()).await;
    assert_eq!((status, &refused["error_code"]), (422, &json!(42201)));
    let message = "No schema reference found for subject \"country\" and version 1";
    assert!(refused["message"].as_str().unwrap().contains(message), "{refused}");

    assert_eq!(register("country", json!({"schema": country.to_string()})).await, (200, json!({"id": 1})));
    assert_eq!(register("place-value", body.clone()).await, (200, json!({"id": 2})));
    assert_eq!(register("place-value", body.clone()).await, (200, json!({"id": 2})));
    let shown = json!({"subject": "place-value", "version": 1, "id": 2, "references": [reference], "schema": place.to_string()});
    assert_eq!(api.get("/subjects/place-value/versions/1").await, (200, shown.clone()));
    assert_eq!(api.call(Method::POST, "/subjects/place-value", Some(body)).await, (200, shown));
    let by_id = json!({"schema": place.to_string(), "references": [reference]});
    assert_eq!(api.get("/schemas/ids/2").await, (200, by_id));
    assert_eq!(api.get("/subjects/country/versions/1/referencedby").await, (200, json!([2])));
    assert_eq!(api.get("/subjects/place-value/versions/1/referencedby").await, (200, json!([])));
    for path in ["/subjects/country", "/subjects/country/versions/1"] {
        let (status, body) = api.call(Method::DELETE, path, None).await;
        assert_eq!((status, &body["error_code"]), (422, &json!(42206)), "{path}");
    }
    assert_eq!(api.call(Method::DELETE, "/subjects/place-value", None).await.0, 200);
    assert_eq!(api.call(Method::DELETE, "/subjects/country", None).await, (200, json!([1])));
    // What it refers to changes what it means: compared with it.
    let other = json!({"type": "enum", "name": "geo.Country", "symbols": ["PL"]});
    assert_eq!(register("other", json!({"schema": other.to_string()})).await.0, 200);
    assert_eq!(register("country", json!({"schema": country.to_string()})).await.0, 200);
    let to = |subject: &str, version: u32| json!({"schema": place.to_string(), "references": [{"name": "geo.Country", "subject": subject, "version": version}]});
    assert_eq!(register("again", to("country", 2)).await.0, 200);
    let (status, body) = register("again", to("other", 1)).await;
    assert_eq!(status, 409);
    assert!(body["message"].as_str().unwrap().contains("MISSING_ENUM_SYMBOLS"), "{body}");
}

#[tokio::test]
async fn json_schemas_have_subjects_too() {
    let api = Api::new();
    let register = async |schema: Value| {
        let body = json!({"schema": schema.to_string(), "schemaType": "JSON"});
        api.call(Method::POST, "/subjects/j-value/versions", Some(body)).await
    };
    let closed = |properties: Value| json!({"type": "object", "properties": properties, "additionalProperties": false});
    let one = closed(json!({"a": {"type": "integer"}}));
    assert_eq!(register(one.clone()).await, (200, json!({"id": 1})));
    assert_eq!(register(one.clone()).await, (200, json!({"id": 1})));
    assert_eq!(api.get("/schemas/ids/1").await.1["schemaType"], "JSON");
    assert_eq!(api.get("/subjects/j-value/versions/1").await.1["schemaType"], "JSON");
    let two = closed(json!({"a": {"type": "integer"}, "b": {"type": "string"}}));
    assert_eq!(register(two).await, (200, json!({"id": 2})));
    let (status, body) = register(closed(json!({"a": {"type": "string"}}))).await;
    assert_eq!(status, 409);
    assert!(body["message"].as_str().unwrap().contains("TYPE_CHANGED"), "{body}");
    let (status, body) = register(json!({"type": "number of"})).await;
    assert_eq!((status, &body["error_code"]), (422, &json!(42201)));
    let (status, body) = api.post("/subjects/j-value/versions", &schema(&json!([]))).await;
    assert_eq!(status, 409);
    assert!(body["message"].as_str().unwrap().contains("schema type"), "{body}");
    // The same text is another schema as Avro than as JSON Schema: "string" is only the one.
    let avro = api.call(Method::POST, "/subjects/k/versions", Some(json!({"schema": "\"string\""}))).await;
    assert_eq!(avro, (200, json!({"id": 3})));
}
