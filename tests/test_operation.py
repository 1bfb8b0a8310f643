"""Running the server: who may reach it, what it says when it cannot start, how it stops."""

import re
import subprocess

import httpx
import millpond
import pytest

from tests.harness.process import free_port
from tests.harness.server import binary


def run(*arguments, **env):
    import os

    command = [str(binary()), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **env}
    )


def test_it_stops_gracefully_and_the_data_stay(make_server):
    server = make_server()
    schema = {
        "type": "record",
        "name": "E",
        "fields": [{"name": "ts", "type": {"type": "long", "logicalType": "timestamp-micros"}}],
    }
    server.store().get_or_create_stream("events", schema, event_time="ts").append([{"ts": 1}] * 3)
    assert server.stop() == 0
    server.start()
    assert len(server.store().get_stream("events").records()) == 3


def test_the_second_process_is_told_who_holds_the_data(make_server):
    server = make_server()
    second = run("serve", "--port", str(free_port()), "--data-dir", str(server.data))
    assert second.returncode != 0
    assert str(server.process.popen.pid) in second.stderr + second.stdout


def test_a_foreign_host_or_origin_is_refused(shared):
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        reply = shared.http.get("/api/v1/streams", headers=headers)
        assert reply.status_code == 403, headers
        assert reply.json()["error"]["code"] == "forbidden"
    own = shared.http.get("/api/v1/streams", headers={"Origin": shared.url})
    assert own.status_code == 200


def test_the_api_key(make_server):
    server = make_server({"MILLPOND_API_KEY": "s3cret"})
    assert server.http.get("/health").status_code == 200
    assert server.http.get("/api/v1/streams").status_code == 401
    assert server.http.get("/api/v1/streams", auth=("anyone", "s3cret")).status_code == 200
    with pytest.raises(millpond.UnauthorizedError):
        server.store(api_key="wrong").get_streams()
    assert server.store(api_key="s3cret").get_streams() == []


def test_others_than_the_local_user_need_a_key(tmp_path):
    refused = run(
        "serve",
        "--data-dir",
        str(tmp_path),
        MILLPOND_HTTP__LISTEN=f"0.0.0.0:{free_port()}",
        MILLPOND_API_KEY="",
    )
    assert refused.returncode != 0
    assert "api_key" in refused.stderr or "API_KEY" in refused.stderr


def test_config_says_where_each_value_came_from(tmp_path):
    shown = run(
        "config", "--data-dir", str(tmp_path), MILLPOND_API_KEY="s3cret", MILLPOND_OFFLINE__DRAIN_INTERVAL="7"
    )
    assert shown.returncode == 0, shown.stderr
    assert "s3cret" not in shown.stdout
    assert re.search(r"^offline.drain_interval = 7 +# environment$", shown.stdout, re.MULTILINE)
    assert re.search(r"^offline.drain_rows = 65536 +# default$", shown.stdout, re.MULTILINE)
    assert re.search(r"^data_dir = .* # command line$", shown.stdout, re.MULTILINE)
    assert str(tmp_path) in shown.stdout


def test_an_unknown_setting_is_an_error(tmp_path):
    unknown = run("config", "--data-dir", str(tmp_path), MILLPOND_OFFLINE__DRAIN_INTERVALL="7")
    assert unknown.returncode != 0
    assert "drain_intervall" in unknown.stderr.lower()


def test_help_helps():
    shown = run("--help")
    assert shown.returncode == 0
    assert {"serve", "config", "produce"} <= set(shown.stdout.split())


def test_ready_and_health(shared):
    assert shared.get("/health")["status"] == "ok"
    assert shared.get("/ready")["ready"] is True


def test_an_unknown_field_is_named(shared):
    reply = httpx.post(f"{shared.url}/api/v1/streams", json={"name": "x", "event_time": "ts", "shcema": {}})
    assert reply.status_code == 400
    assert "shcema" in reply.json()["error"]["message"]
