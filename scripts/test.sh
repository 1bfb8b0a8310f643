#!/usr/bin/env bash
# test.sh [pytest arguments]: Rust, Python, notebooks and whole-system tests. Needs `setup.sh test`.
# Its last line is "N passed, N failed" over all of them.
set -euo pipefail
. "$(dirname "$0")/env.sh"
cd "$ROOT"
venv=$(venv_of test)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
failed=0

say "Rust"
cargo test --locked --workspace 2>&1 | tee "$out/rust" || failed=1
say "Python, notebooks, whole system"
# Each process has a Kafka of its own: as many as there are cores, but not more than four. A file's tests stay together:
# they share what its fixtures made, and some go on from what others did.
cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
"$venv/bin/python" -m pytest client-py/tests tests -n $((cores < 4 ? cores : 4)) --dist loadfile --no-loadscope-reorder --durations 25 "$@" 2>&1 | tee "$out/python" || failed=1

# "test result: ok. 12 passed; 0 failed; …" per Rust binary, "=== 73 passed, 1 failed in 4s ===" from pytest
counts=$(awk '
  /^test result:/ { for (i = 1; i < NF; i++) { if ($(i+1) == "passed;") p += $i; if ($(i+1) == "failed;") f += $i }; next }
  /(passed|failed|error|errors).* in [0-9.]+s/ { for (i = 1; i < NF; i++) {
      if ($(i+1) ~ /^passed/) p += $i; if ($(i+1) ~ /^(failed|errors?)/) f += $i } }
  END { print p + 0, f + 0 }' "$out/rust" "$out/python")
set -- $counts
# A build that fails or a crash counts too.
[ "$failed" = 1 ] && [ "$2" = 0 ] && set -- "$1" 1
echo "$1 passed, $2 failed"
exit $failed
