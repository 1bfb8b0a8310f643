#!/usr/bin/env bash
# demo.sh: sets up, then runs the demo. ONCE=1 ends by itself; PORT=7878 is where the server listens.
set -euo pipefail
. "$(dirname "$0")/env.sh"
bash "$ROOT/scripts/setup.sh" demo
cd "$ROOT"
exec "$(venv_of demo)/bin/python" -m scripts.demo
