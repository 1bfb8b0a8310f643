#!/usr/bin/env bash
# bench.sh [options of millpond-bench]: release build, a real Kafka, results in bench/results/latest.json.
set -euo pipefail
. "$(dirname "$0")/env.sh"
cd "$ROOT"
exec "$(venv_of test)/bin/python" -m scripts.bench "$@"
