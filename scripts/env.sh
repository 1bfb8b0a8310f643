# Sourced by the other scripts (bash 3.2 is enough): where things are kept.
# Everything that is built or fetched lies in one cache outside the clone, shared by all targets.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/millpond
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$CACHE/target}
export BUILT_MILLPOND=$CARGO_TARGET_DIR/debug/millpond
export PYTHONPATH=$ROOT/client-py/src:$ROOT${PYTHONPATH:+:$PYTHONPATH}
export PYTHONDONTWRITEBYTECODE=1
export PATH="$HOME/.cargo/bin:$PATH"

say() { printf '\033[1m%s\033[0m\n' "$*"; }
die() { printf '%s\n' "$*" >&2; exit 1; }

# venv_of <purpose>: the virtual environment of requirements/<purpose>.txt; other pins, another one.
venv_of() {
  local sum
  sum=$(cat "$ROOT/requirements/$1.txt" "$ROOT/scripts/setup.sh" | cksum | cut -d' ' -f1)
  printf '%s/venv/%s-%s' "$CACHE" "$1" "$sum"
}
