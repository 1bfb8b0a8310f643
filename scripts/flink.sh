#!/usr/bin/env bash
# flink.sh: Apache Flink as jars from Maven Central into the cache, and the comparison of tests/flink. Needs `setup.sh test`.
set -euo pipefail
. "$(dirname "$0")/env.sh"
cd "$ROOT"
ECJ=3.33.0 # a compiler as a jar, for there may be a runtime only; the last one that runs on Java 17
maven() { mvn -B -q -ntp "$@"; }

export FLINK_VERSION
FLINK_VERSION=$(sed -n 's|.*<flink.version>\(.*\)</flink.version>.*|\1|p' tests/flink/pom.xml)
export FLINK_HOME=$CACHE/flink-$(cat tests/flink/pom.xml | cksum | cut -d' ' -f1)
if [ ! -e "$FLINK_HOME/.complete" ]; then
  say "Apache Flink $FLINK_VERSION (110 MB) → $FLINK_HOME"
  rm -rf "$FLINK_HOME"
  mkdir -p "$FLINK_HOME"
  cp tests/flink/pom.xml "$FLINK_HOME/pom.xml"
  maven -f "$FLINK_HOME/pom.xml" dependency:copy-dependencies "-DoutputDirectory=$FLINK_HOME/jars" -DincludeScope=runtime
  maven dependency:copy "-Dartifact=org.eclipse.jdt:ecj:$ECJ" "-DoutputDirectory=$FLINK_HOME/compiler"
  touch "$FLINK_HOME/.complete"
fi
classpath=$(printf '%s:' "$FLINK_HOME"/jars/*.jar)
java -jar "$FLINK_HOME/compiler/ecj-$ECJ.jar" -17 -nowarn -cp "$classpath" -d "$FLINK_HOME/classes" tests/flink/FlinkRows.java
exec "$(venv_of test)/bin/python" -m tests.flink
