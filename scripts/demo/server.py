"""The demo's own `millpond serve`: started on PORT, stopped however the demo ends."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx


class CannotStart(Exception):
    """The server cannot run; the argument says what to do."""


def start(port: int, data: Path) -> subprocess.Popen[bytes]:
    """Start the server and wait until it is ready.

    Raises:
        CannotStart: the port is taken, or the server ended.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise CannotStart(
                f"Port {port} is taken. Choose another one: make demo PORT={port + 1}"
            ) from None
    data.mkdir(parents=True, exist_ok=True)
    log = data / "server.log"
    command = [os.environ["BUILT_MILLPOND"], "serve", "--port", str(port), "--data-dir", str(data)]
    with log.open("wb") as out:
        # A session of its own: Ctrl-C reaches the demo, which then stops the server.
        server = subprocess.Popen(
            command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True
        )
    deadline = time.monotonic() + 60
    while True:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/ready", timeout=2).status_code == 200:
                return server
        except httpx.TransportError:
            pass
        except BaseException:
            stop(server)
            raise
        if server.poll() is not None or time.monotonic() > deadline:
            stop(server)
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise CannotStart(f"The server does not start ({log}):\n{tail}")
        time.sleep(0.1)


def stop(server: subprocess.Popen[bytes]) -> None:
    """Stop it gracefully; by force after 20 seconds."""
    if server.poll() is None:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def main_binary() -> str:
    """The `millpond` command."""
    return os.environ.get("BUILT_MILLPOND") or sys.exit("BUILT_MILLPOND is not set: run `make demo`")
