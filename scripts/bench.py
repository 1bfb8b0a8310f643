"""Builds in release, starts a Kafka broker, runs the benchmark beside it, stops it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.harness.kafka import Kafka


def main() -> int:
    """Returns the benchmark's exit code."""
    build = [
        "cargo",
        "build",
        "--release",
        "--locked",
        "--package",
        "millpond",
        "--package",
        "millpond-bench",
    ]
    subprocess.run(build, check=True)
    release = Path(os.environ["CARGO_TARGET_DIR"]) / "release"
    with tempfile.TemporaryDirectory() as folder:
        kafka = Kafka(Path(folder))
        try:
            kafka.start()
            command = [
                release / "millpond-bench",
                "--millpond",
                release / "millpond",
                "--kafka",
                kafka.bootstrap,
            ]
            if home := os.environ.get("FLINK_HOME"):
                command += ["--flink", home]
            return subprocess.run([*command, *sys.argv[1:]], check=False).returncode
        finally:
            kafka.stop()


if __name__ == "__main__":
    sys.exit(main())
