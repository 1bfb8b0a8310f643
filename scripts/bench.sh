#!/usr/bin/env bash
# bench.sh [options of millpond-bench]: release build, a real Kafka, Apache Flink where Maven and Java 17 are; results in
# bench/results/latest.json.
set -euo pipefail
. "$(dirname "$0")/env.sh"
cd "$ROOT"
if command -v mvn > /dev/null && command -v java > /dev/null; then
  . scripts/flink_home.sh
else
  say "No mvn or no java: Apache Flink is left out"
fi
exec "$(venv_of test)/bin/python" -m scripts.bench "$@"
