#!/usr/bin/env bash
# example.sh: a server with fresh data, one example of examples/ defined on it, its producer beside it. Ctrl-C ends all.
# NAME=ctr_by_product; HISTORICAL=1 replays old events; PORT=7878. With KAFKA_BOOTSTRAP_SERVERS the streams are topics.
set -euo pipefail
. "$(dirname "$0")/env.sh"
cd "$ROOT"
names=$(cd examples && ls -d */define.py | sed 's|/.*||' | tr '\n' ' ')
case " $names" in *" ${NAME:-?} "*) ;; *) die "make example NAME=…, one of: $names" ;; esac
bash "$ROOT/scripts/setup.sh" demo

PORT=${PORT:-7878}
export MILLPOND_URL=http://127.0.0.1:$PORT
data=.millpond/examples/$NAME
python=$(venv_of demo)/bin/python
rm -rf "$data"
mkdir -p "$data"
"$BUILT_MILLPOND" serve --port "$PORT" --data-dir "$data" >"$data.log" 2>&1 &
server=$!
trap 'kill $server 2>/dev/null; wait $server 2>/dev/null' EXIT
trap 'exit 130' INT
until "$python" -c "import millpond; millpond.login()" 2>/dev/null; do
  kill -0 $server 2>/dev/null || die "The server does not start ($data.log):
$(tail -n 15 "$data.log")"
  sleep 0.2
done
say "millpond serve is up at $MILLPOND_URL; what to ask it: examples/$NAME/README.md"
"$python" -m "examples.$NAME.define" ${HISTORICAL:+--historical} ${KAFKA_BOOTSTRAP_SERVERS:+--kafka}
"$python" -m "examples.$NAME.produce"
say "The server stays until Ctrl-C."
wait $server
