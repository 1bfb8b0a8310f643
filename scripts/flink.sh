#!/usr/bin/env bash
# flink.sh: the comparison of tests/flink with Apache Flink. Needs `setup.sh test`.
set -euo pipefail
. "$(dirname "$0")/env.sh"
cd "$ROOT"
. scripts/flink_home.sh
exec "$(venv_of test)/bin/python" -m tests.flink
