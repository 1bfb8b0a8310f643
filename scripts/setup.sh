#!/usr/bin/env bash
# setup.sh <demo|test|bench|notebooks>: everything that target needs, up to the built server.
# What is there already is left alone: a second run takes a second.
set -euo pipefail
. "$(dirname "$0")/env.sh"

purpose=${1:-demo}
bash "$ROOT/scripts/packages.sh" "$purpose"
mkdir -p "$CACHE"

# Python: only in a virtual environment of our own.
pins=$purpose
[ "$purpose" = bench ] && pins=test
venv=$(venv_of "$pins")
if [ ! -e "$venv/.complete" ]; then
  say "Python packages → $venv"
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$ROOT/requirements/$pins.txt"
  touch "$venv/.complete"
fi

# The services of the tests: plain jars from Maven Central.
case $purpose in test | bench) bash "$ROOT/scripts/services.sh" ;; esac
if [ "$purpose" = test ] && ! command -v chromium >/dev/null && ! command -v google-chrome >/dev/null; then
  "$venv/bin/python" -m playwright install chromium
fi

# The server. The first build compiles RocksDB, DataFusion and delta-rs; one after new pins what they change.
built=$CARGO_TARGET_DIR/.millpond-$(cat "$ROOT/Cargo.lock" "$ROOT/rust-toolchain.toml" | cksum | cut -d' ' -f1)
if [ ! -e "$built" ]; then
  mkdir -p "$CARGO_TARGET_DIR"
  cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
  free=$(df -Pk "$CARGO_TARGET_DIR" | awk 'NR == 2 { print int($4 / 1048576) }')
  if [ -d "$CARGO_TARGET_DIR/debug/deps" ]; then
    need=3 # GB
    say "The pinned packages changed: those that did are compiled anew, in $CARGO_TARGET_DIR ($free GB free)."
  else
    need=8
    say "The first build takes about $((50 / cores)) minutes on $cores cores and up to $need GB in $CARGO_TARGET_DIR ($free GB free)."
  fi
  [ "$free" -ge "$need" ] || die "Not enough disk: $need GB are needed and $free GB free. Set XDG_CACHE_HOME to a folder on a larger disk."
fi
(cd "$ROOT" && cargo build --locked --package millpond --bin millpond)
touch "$built"
