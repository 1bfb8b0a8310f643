"""A real external schema registry that speaks Confluent's API: Apicurio."""

from __future__ import annotations

from pathlib import Path

import httpx

from .process import Process, cache, free_port

VERSION = "3.0.9"


class Apicurio:
    """One registry, in memory, on free ports; incompatible schemas are refused (BACKWARD)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/apis/ccompat/v7"
        self.process: Process | None = None

    def start(self) -> Apicurio:
        """Start, and wait for the first answer."""
        home = cache() / f"apicurio-{VERSION}"
        jar = home / f"apicurio-registry-app-{VERSION}-runner.jar"
        options = [
            "-Dquarkus.http.host=127.0.0.1",
            f"-Dquarkus.http.port={self.port}",
            "-Dquarkus.management.host=127.0.0.1",
            f"-Dquarkus.management.port={free_port()}",
            "-Dapicurio.rules.global.compatibility=BACKWARD",
        ]
        command = ["java", "-Xms128m", "-Xmx512m", *options, "-jar", jar]
        self.process = Process(command, self.folder / "registry.log")
        self.process.wait_until(self._answers, "Apicurio", 120)
        return self

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/subjects", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        """Stop the registry."""
        if self.process is not None:
            self.process.stop()

    def kill(self) -> None:
        """SIGKILL: as if the machine were gone."""
        if self.process is not None:
            self.process.kill()
