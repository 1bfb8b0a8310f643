"""`make demo`, as a newcomer runs it: it ends well, again, and after an interruption in the middle."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.harness.process import free_port
from tests.harness.server import binary


@pytest.fixture
def demo(root, tmp_path):
    """Starts the demo in a folder of its own."""
    for name in ("client-py", "scripts", "schemas", "examples"):
        (tmp_path / name).symlink_to(root / name)
    port = free_port()
    environment = {
        **os.environ,
        "PORT": str(port),
        "ONCE": "1",
        "BUILT_MILLPOND": str(binary()),
        "PYTHONPATH": f"{root}/client-py/src:{root}",
    }

    def start(**env):
        command = [sys.executable, "-m", "scripts.demo"]
        return subprocess.Popen(
            command,
            cwd=tmp_path,
            env={**environment, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    start.port = port
    start.folder = tmp_path
    return start


def historical(output):
    """The part that must be the same every time: from the history to the live part."""
    part = output[output.index("\n3  ") : output.index("\n6  ")]
    return re.sub(r"\([\d]+ KiB\)", "", part)


def test_it_ends_well_and_again(demo):
    process = demo()
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert re.search(r"\d{3,} comparisons with the recomputation: all equal", output)
    assert "DIFFERENT" not in output
    assert (demo.folder / ".millpond/demo/training.parquet").exists()
    again = demo()
    second, _ = again.communicate(timeout=300)
    assert again.returncode == 0, second
    assert historical(second) == historical(output)


def test_after_an_interruption_it_goes_on(demo):
    process = demo()
    seen = ""
    while "Replay of" not in seen:
        line = process.stdout.readline()
        assert line, seen
        seen += line
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    again = demo()
    output, _ = again.communicate(timeout=300)
    assert again.returncode == 0, output
    shutil.rmtree(demo.folder / ".millpond")
    fresh = demo()
    clean, _ = fresh.communicate(timeout=300)
    assert fresh.returncode == 0, clean
    assert historical(clean) == historical(output)


def test_a_taken_port_is_named(demo, shared):
    process = demo(PORT=str(shared.port))
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"Port {shared.port} is taken" in output
    assert f"make demo PORT={shared.port + 1}" in output
