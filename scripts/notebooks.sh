#!/usr/bin/env bash
# notebooks.sh: a server on its embedded defaults, and the tutorial in Jupyter. Ctrl-C ends both.
set -euo pipefail
. "$(dirname "$0")/env.sh"
bash "$ROOT/scripts/setup.sh" notebooks
cd "$ROOT"
PORT=${PORT:-7878}
"$BUILT_MILLPOND" serve --port "$PORT" --data-dir .millpond/notebooks &
server=$!
trap 'kill $server 2>/dev/null; wait $server 2>/dev/null' EXIT
export MILLPOND_URL=http://127.0.0.1:$PORT
"$(venv_of notebooks)/bin/jupyter" lab --notebook-dir notebooks
