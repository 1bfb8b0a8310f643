"""The real `millpond serve`, on a free port, with a data directory of its own."""

from __future__ import annotations

import os
from pathlib import Path

import httpx
import millpond

from .process import Process, cache, free_port


def binary() -> Path:
    """The server as `make` builds it."""
    path = os.environ.get("BUILT_MILLPOND")
    if path:
        return Path(path)
    target = os.environ.get("CARGO_TARGET_DIR") or cache() / "target"
    return Path(target) / "debug" / "millpond"


class Server:
    """One server; `start` after `stop` or `kill` continues on the same data and the same port."""

    def __init__(
        self,
        folder: Path,
        env: dict[str, str] | None = None,
        options: list[str] | None = None,
    ) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = env or {}
        self.options = options or []
        self.process: Process | None = None
        self.http = httpx.Client(base_url=self.url, timeout=120)

    def start(self, timeout: float = 60) -> Server:
        """Start, and wait until it is ready."""
        command = [
            binary(),
            "serve",
            "--port",
            str(self.port),
            "--data-dir",
            self.data,
            *self.options,
        ]
        self.process = Process(command, self.folder / "server.log", self.env)
        self.process.wait_until(self._ready, "millpond serve", timeout)
        return self

    def _ready(self) -> bool:
        try:
            return self.http.get("/ready", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def store(self, **options: object) -> millpond.FeatureStore:
        """The client's face of it."""
        return millpond.login(self.url, **options).get_feature_store()  # type: ignore[arg-type]

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        return 0 if self.process is None else self.process.stop()

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()

    def get(self, path: str, **params: object) -> dict:
        """JSON of a route; fails on an error reply."""
        reply = self.http.get(path, params=params)  # type: ignore[arg-type]
        assert reply.is_success, f"{path}: {reply.status_code} {reply.text}"
        return reply.json()

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics by its name with labels, as text."""
        lines = self.http.get("/metrics").text.splitlines()
        samples = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in samples}
