"""A child process that never outlives the tests, with its output in a file."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


def free_port() -> int:
    """A port of the loopback interface that nothing listens on now.

    It lies below those that the system gives to outgoing connections: none of them takes it before it is used.
    """
    while True:
        port = random.SystemRandom().randrange(15_000, 32_000)
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port))
            return port


def cache() -> Path:
    """Where the project's scripts keep what they fetch and build."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "millpond"


def _die_with_parent() -> None:
    # Linux: the kernel kills the child when the tests end, however they end.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Process:
    """One child process."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.log = log
        with log.open("ab") as out:
            self.popen = subprocess.Popen(
                [str(c) for c in command],
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **(env or {})},
                preexec_fn=_die_with_parent,
            )

    def wait_until(self, ready: Callable[[], bool], what: str, timeout: float = 60) -> None:
        """Wait until `ready()`; fails with the end of the log if the process ends or time runs out."""
        deadline = time.monotonic() + timeout
        while not ready():
            code = self.popen.poll()
            if code is not None or time.monotonic() > deadline:
                ended = f"ended with {code}" if code is not None else f"is not ready after {timeout:.0f} s"
                raise AssertionError(f"{what} {ended}:\n{self.tail()}")
            time.sleep(0.05)

    def tail(self, lines: int = 40) -> str:
        """The end of its output."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self, timeout: float = 30) -> int:
        """SIGTERM, and SIGKILL if that does not help; returns the exit code."""
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                return self.popen.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.popen.wait()

    def kill(self) -> None:
        """SIGKILL, at once."""
        self.popen.kill()
        self.popen.wait()
