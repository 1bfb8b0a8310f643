"""Crates: every licence is one that the project can ship with, and every dependency is used.

Reads `cargo metadata`, that is the lock file and the crates that it pins. Advisories are not looked at: their database
(RustSec's, on GitHub) would be a download at every run, it cannot be reached where these checks run, and what it says
changes without a change here.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ALLOWED = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0",
    "CC0-1.0", "CDLA-Permissive-2.0", "ISC", "MIT", "MIT-0", "Unicode-3.0", "Unlicense", "Zlib",
}  # fmt: skip
# One crate each, under a licence that is not allowed to others, and why it is to this one.
EXCEPTIONS = {
    "libbz2-rs-sys": "bzip2-1.0.6",  # permissive; its notice stands in the crate
    "option-ext": "MPL-2.0",  # binds the crate's own files only, and they are not changed
}
# Not used, and why they are still there.
KEPT = {
    "num-bigint": "without it datafusion is built anew for everyone; goes with the next change of the lock file",
}


def allowed(expression: str) -> bool:
    """Whether an SPDX expression can be met with the allowed licences alone.

    >>> allowed("MIT OR GPL-3.0-only"), allowed("MIT AND GPL-3.0-only"), allowed("(MIT OR X) AND ISC")
    (True, False, True)
    """
    tokens = re.findall(r"\(|\)|[^()\s]+", expression.replace("/", " OR "))
    value, rest = _either(tokens)
    return value and not rest


def _either(tokens: list[str]) -> tuple[bool, list[str]]:
    value, rest = _both(tokens)
    while rest and rest[0] == "OR":
        other, rest = _both(rest[1:])
        value = value or other
    return value, rest


def _both(tokens: list[str]) -> tuple[bool, list[str]]:
    value, rest = _one(tokens)
    while rest and rest[0] == "AND":
        other, rest = _one(rest[1:])
        value = value and other
    return value, rest


def _one(tokens: list[str]) -> tuple[bool, list[str]]:
    if not tokens:
        return False, []
    if tokens[0] == "(":
        value, rest = _either(tokens[1:])
        return value and rest[:1] == [")"], rest[1:]
    if tokens[1:2] == ["WITH"]:
        return " ".join(tokens[:3]) in ALLOWED, tokens[3:]
    return tokens[0] in ALLOWED, tokens[1:]


def refused(packages: list[dict[str, Any]]) -> list[str]:
    """Crates from elsewhere whose licence is not allowed, or not stated."""
    found = []
    for package in packages:
        licence = package["license"] or f"no licence but {package['license_file']}"
        known = EXCEPTIONS.get(package["name"]) == licence
        if package["source"] is not None and not known and not allowed(licence):
            found.append(f"{package['name']} {package['version']}: {licence}")
    return found


def unused(package: dict[str, Any]) -> list[str]:
    """Dependencies of a crate of ours that none of its sources mentions."""
    folder = Path(package["manifest_path"]).parent
    # A crate of ours may lie within another one: its sources are not the other one's.
    inner = [path.parent for path in folder.rglob("Cargo.toml") if path.parent != folder]
    files = [path for path in folder.rglob("*.rs") if not any(path.is_relative_to(i) for i in inner)]
    words = set(re.findall(r"\w+", "\n".join(path.read_text() for path in files)))
    names = {d["rename"] or d["name"] for d in package["dependencies"]}
    return sorted(name for name in names - KEPT.keys() if name.replace("-", "_") not in words)


def main() -> int:
    """Print what is wrong; returns the exit code."""
    command = ["cargo", "metadata", "--format-version", "1", "--locked"]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    lines = [f"not an allowed licence: {line}" for line in refused(metadata["packages"])]
    for package in (p for p in metadata["packages"] if p["source"] is None):
        lines += [f"{package['name']} does not use its dependency {name}" for name in unused(package)]
    for line in lines:
        print(line, file=sys.stderr)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
