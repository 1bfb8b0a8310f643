"""The synchronous client is what the asynchronous one gives."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import millpond

SCRIPT = Path(__file__).parent.parent / "scripts" / "unasync.py"


def test_sync_is_generated_from_async():
    run = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("name", ["Connection", "FeatureStore", "Stream", "FeatureGroup", "FeatureView"])
def test_both_have_the_same_methods(name):
    sync, asynchronous = getattr(millpond, name), getattr(millpond, "Async" + name)
    methods = {n for n in dir(asynchronous) if not n.startswith("_")}
    assert {n for n in dir(sync) if not n.startswith("_")} == {
        n.removeprefix("a") if n == "aclose" else n for n in methods
    }
    assert not [n for n, f in inspect.getmembers(sync, inspect.iscoroutinefunction)]
