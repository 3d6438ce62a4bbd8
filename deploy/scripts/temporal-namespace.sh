#!/bin/sh
# Makes the namespace if it is not there. Address and namespace come from TEMPORAL_ADDRESS and TEMPORAL_NAMESPACE.
set -eu
# The port answers a little before the server is ready to.
tries=0
until temporal operator cluster health >/dev/null 2>&1; do
  tries=$((tries + 1))
  [ "$tries" -lt 60 ] || { echo "Temporal at $TEMPORAL_ADDRESS did not get healthy."; exit 1; }
  sleep 1
done
temporal operator namespace describe --namespace "$TEMPORAL_NAMESPACE" >/dev/null 2>&1 \
  || temporal operator namespace create --namespace "$TEMPORAL_NAMESPACE" --retention "$RETENTION"
