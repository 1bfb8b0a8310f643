#!/usr/bin/env bash
# lint.sh: formatting, lints and types of everything. Needs `setup.sh test`.
set -euo pipefail
. "$(dirname "$0")/env.sh"
cd "$ROOT"
bin=$(venv_of test)/bin

cargo fmt --all --check
cargo clippy --locked --workspace --all-targets --quiet -- -D warnings
"$bin/ruff" check --quiet client-py tests scripts examples
"$bin/ruff" format --check --quiet client-py tests scripts examples
(cd client-py && "$bin/mypy" --no-error-summary)
"$bin/python" client-py/scripts/unasync.py --check
unformatted=$(gofmt -l examples)
[ -z "$unformatted" ] || { echo "gofmt: $unformatted"; exit 1; }
for script in scripts/*.sh .ci/run; do bash -n "$script"; done
"$bin/python" scripts/lint_crates.py
"$bin/python" scripts/lint_docker.py
if [ -x "$bin/hadolint" ]; then "$bin/hadolint" --ignore DL3008 docker/Dockerfile; fi # Debian's versions move: not pinned
"$bin/check-jsonschema" --quiet --builtin-schema vendor.compose-spec docker/compose.yaml
echo "lint: nothing to complain about"
