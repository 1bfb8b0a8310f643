//! Who may call: keys, names, origins.

use axum::body::Body;

use crate::harness::Server;

#[tokio::test]
async fn without_a_key_a_web_page_reaches_nothing() {
    let server = Server::start().await;
    let table = [
        ("localhost:7878", None, 200),
        ("127.0.0.1", None, 200),
        ("[::1]:9", None, 200),
        ("localhost:7878", Some("http://localhost:7878"), 200),
        ("evil.example", None, 403),
        ("localhost:7878", Some("http://evil.example"), 403),
        ("localhost:7878", Some("null"), 403),
    ];
    for path in
        ["/api/v1/streams", "/metrics", "/docs/", "/openapi.json", "/schema-registry/subjects", "/nothing"]
    {
        for (host, origin, wanted) in table {
            let mut headers = vec![("host", host)];
            headers.extend(origin.map(|o| ("origin", o)));
            let reply = server.request("GET", path, &headers, Body::empty()).await;
            let passed = if reply.status == 403 { 403 } else { 200 };
            assert_eq!(passed, wanted, "{path} Host: {host} Origin: {origin:?}: {}", reply.status);
        }
    }
    assert_eq!(server.request("GET", "/health", &[("host", "10.1.2.3")], Body::empty()).await.status, 200);
}

#[tokio::test]
async fn with_a_key_only_its_holders_pass() {
    let server = Server::with(|config| config.api_key = Some("s3cret".to_owned())).await;
    let basic = "Basic YW55b25lOnMzY3JldA=="; // anyone:s3cret
    for (authorization, wanted) in [("Bearer s3cret", 200), (basic, 200), ("Bearer no", 401), ("", 401)] {
        for path in ["/api/v1/streams", "/metrics", "/docs/", "/openapi.json", "/schema-registry/subjects"] {
            let headers = [("host", "pond.example"), ("authorization", authorization)];
            let reply = server.request("GET", path, &headers, Body::empty()).await;
            assert_eq!(reply.status, wanted, "{path} {authorization}");
            assert_eq!(
                reply.headers.contains_key("www-authenticate"),
                wanted == 401,
                "{path} {authorization}"
            );
        }
    }
    for path in ["/health", "/ready"] {
        assert_eq!(server.get(path).await.status, 200);
    }
}
