# flink_home.sh: to be sourced after env.sh. Apache Flink as jars from Maven Central into the cache, and our two
# main classes for it; exports FLINK_VERSION and FLINK_HOME.
ECJ=3.33.0 # a compiler as a jar, for there may be a runtime only; the last one that runs on Java 17
maven() { mvn -B -q -ntp "$@"; }

export FLINK_VERSION FLINK_HOME
FLINK_VERSION=$(sed -n 's|.*<flink.version>\(.*\)</flink.version>.*|\1|p' tests/flink/pom.xml)
FLINK_HOME=$CACHE/flink-$(cksum < tests/flink/pom.xml | cut -d' ' -f1)
if [ ! -e "$FLINK_HOME/.complete" ]; then
  say "Apache Flink $FLINK_VERSION (170 MB) → $FLINK_HOME"
  rm -rf "$FLINK_HOME"
  mkdir -p "$FLINK_HOME"
  cp tests/flink/pom.xml "$FLINK_HOME/pom.xml"
  maven -f "$FLINK_HOME/pom.xml" dependency:copy-dependencies "-DoutputDirectory=$FLINK_HOME/jars" -DincludeScope=runtime
  maven dependency:copy "-Dartifact=org.eclipse.jdt:ecj:$ECJ" "-DoutputDirectory=$FLINK_HOME/compiler"
  touch "$FLINK_HOME/.complete"
fi
java -jar "$FLINK_HOME/compiler/ecj-$ECJ.jar" -17 -nowarn -cp "$(printf '%s:' "$FLINK_HOME"/jars/*.jar)" \
  -d "$FLINK_HOME/classes" tests/flink/FlinkRows.java bench/flink/FlinkTumbling.java
