"""/docs in a real browser: the page loads without the internet, and a request sent from it is answered."""

import os
import shutil

import pytest
from playwright.sync_api import sync_playwright


@pytest.fixture(scope="module")
def browser():
    path = shutil.which("chromium") or shutil.which("google-chrome")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


def test_a_request_is_executed_from_the_page(browser, shared):
    stream = shared.store().get_or_create_stream(
        "seen_in_docs",
        {
            "type": "record",
            "name": "E",
            "fields": [{"name": "ts", "type": {"type": "long", "logicalType": "timestamp-micros"}}],
        },
        event_time="ts",
    )
    page = browser.new_page()
    foreign, errors = [], []
    page.on(
        "request",
        lambda r: None if r.url.startswith((shared.url, "data:", "blob:")) else foreign.append(r.url),
    )
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.goto(f"{shared.url}/docs")
    operation = page.locator(".opblock-get", has=page.locator('[data-path="/api/v1/streams"]')).first
    operation.wait_for(timeout=30_000)
    operation.locator(".opblock-summary").click()
    operation.get_by_role("button", name="Try it out").click()
    with page.expect_response(lambda r: r.url.endswith("/api/v1/streams")) as reply:
        operation.get_by_role("button", name="Execute").click()
    assert reply.value.status == 200
    assert stream.name in [s["name"] for s in reply.value.json()["streams"]]
    body = operation.locator(".responses-table.live-responses-table")
    body.wait_for(timeout=30_000)
    assert stream.name in body.inner_text()
    assert not foreign, "the page asks others than the server"
    assert not errors
    page.close()


def test_every_operation_of_the_page_is_a_route(shared):
    document = shared.get("/openapi.json")
    for path, operations in document["paths"].items():
        for method in operations:
            if method == "get" and "{" not in path:
                assert shared.http.get(path).status_code < 500, path
    assert {"/api/v1/streams", "/api/v1/feature-groups", "/api/v1/feature-views"} <= document["paths"].keys()
