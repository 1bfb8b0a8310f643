#!/usr/bin/env bash
# services.sh: fetches Apache Kafka and a Confluent-compatible registry (Apicurio) as jars from Maven Central
# into the cache. Nothing is started here: the tests start them on free ports.
set -euo pipefail
. "$(dirname "$0")/env.sh"

KAFKA=4.3.1
LOG4J=2.25.4
APICURIO=3.0.9 # the last one that runs on Java 17
maven() { mvn -B -q -ntp "$@"; }

kafka=$CACHE/kafka-$KAFKA
if [ ! -e "$kafka/.complete" ]; then
  say "Apache Kafka $KAFKA (45 MB) → $kafka"
  rm -rf "$kafka"
  mkdir -p "$kafka"
  cat >"$kafka/pom.xml" <<XML
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>millpond</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$KAFKA</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>$LOG4J</version></dependency>
  </dependencies>
</project>
XML
  maven -f "$kafka/pom.xml" dependency:copy-dependencies "-DoutputDirectory=$kafka/jars" -DincludeScope=runtime
  touch "$kafka/.complete"
fi

apicurio=$CACHE/apicurio-$APICURIO
if [ ! -e "$apicurio/.complete" ]; then
  say "Apicurio Registry $APICURIO (109 MB) → $apicurio"
  rm -rf "$apicurio"
  mkdir -p "$apicurio"
  maven dependency:get "-Dartifact=io.apicurio:apicurio-registry-app:$APICURIO:tar.gz:all" -Dtransitive=false
  maven dependency:copy "-Dartifact=io.apicurio:apicurio-registry-app:$APICURIO:tar.gz:all" "-DoutputDirectory=$apicurio"
  tar -xzf "$apicurio/apicurio-registry-app-$APICURIO-all.tar.gz" -C "$apicurio"
  rm "$apicurio/apicurio-registry-app-$APICURIO-all.tar.gz"
  touch "$apicurio/.complete"
fi
