"""What hadolint and the Compose schema do not see in docker/: files, volumes and services that are named exist."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import yaml

DOCKER = Path(__file__).resolve().parent.parent / "docker"


def dockerfile(path: Path) -> list[str]:
    """What is wrong with a Dockerfile."""
    text = re.sub(r"\\\n", " ", path.read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    wrong = []
    users = [line.split()[1] for line in lines if line.upper().startswith("USER ")]
    if not users or users[-1] in ("root", "0"):
        wrong.append("it ends as root: add USER")
    wrong += [
        f"{line}: pin the image"
        for line in lines
        if re.match(r"FROM [^:@ ]+( |$)", line) and " AS " not in line.upper()
    ]
    for line in lines:
        if line.startswith("COPY ") and "--from" not in line:
            sources = [s for s in line.split()[1:-1] if not s.startswith("--")]
            wrong += [
                f"COPY of {s}: not there" for s in sources if s != "." and not list(DOCKER.parent.glob(s))
            ]
    return wrong


def compose(path: Path) -> list[str]:
    """What is wrong with a compose file."""
    services = yaml.safe_load(path.read_text())["services"]
    volumes = set(yaml.safe_load(path.read_text()).get("volumes") or {})
    wrong = []
    for name, service in services.items():
        if "image" not in service and "build" not in service:
            wrong.append(f"{name} has neither image nor build")
        if service.get("image", ":x").endswith(":latest"):
            wrong.append(f"{name}: pin the image")
        wrong += [
            f"{name} depends on {d}, which is not there"
            for d in service.get("depends_on", [])
            if d not in services
        ]
        for volume in service.get("volumes", []):
            source = str(volume).split(":")[0]
            if not source.startswith((".", "/")) and source not in volumes:
                wrong.append(f"{name} uses volume {source}, which is not declared")
            if source.startswith(".") and not (path.parent / source).exists():
                wrong.append(f"{name} mounts {source}, which is not there")
    return wrong


def main() -> int:
    """Print what is wrong; returns the exit code."""
    wrong = [f"{p.name}: {w}" for p in sorted(DOCKER.glob("Dockerfile*")) for w in dockerfile(p)]
    wrong += [f"{p.name}: {w}" for p in sorted(DOCKER.glob("*compose*.y*ml")) for w in compose(p)]
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
