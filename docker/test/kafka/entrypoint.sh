#!/bin/bash
# Writes server.properties from KAFKA_... as apache/kafka does (_ is a dot, __ an underscore, ___ a dash), formats an empty
# log directory, and becomes the broker.
set -euo pipefail

properties=/opt/kafka/config/server.properties
: >"$properties"
while IFS='=' read -r name value; do
  case $name in
    KAFKA_HEAP_OPTS | KAFKA_OPTS | KAFKA_LOG4J* | KAFKA_JVM*) continue ;;
    KAFKA_*) ;;
    *) continue ;;
  esac
  name=${name#KAFKA_}
  name=${name,,}
  name=${name//___/-}
  name=${name//__/+}
  name=${name//_/.}
  echo "${name//+/_}=$value" >>"$properties"
done < <(env)
cat >/opt/kafka/config/log4j2.properties <<'PROPERTIES'
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d] %p %m (%c)%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
PROPERTIES

# shellcheck disable=SC2086,SC2206 # options, separated by spaces
java=(java ${KAFKA_HEAP_OPTS:--Xms1g -Xmx1g} ${KAFKA_OPTS:-} -XX:+UseG1GC -XX:+ExitOnOutOfMemoryError
  -Djava.awt.headless=true -Dlog4j2.configurationFile=/opt/kafka/config/log4j2.properties -cp "/opt/kafka/libs/*")
if [ ! -e "$KAFKA_LOG_DIRS/meta.properties" ]; then
  "${java[@]}" kafka.tools.StorageTool format --config "$properties" --cluster-id "${CLUSTER_ID:-5L6g3nShT-eMCtK--X86sw}"
fi
exec "${java[@]}" kafka.Kafka "$properties"
