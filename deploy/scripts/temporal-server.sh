#!/bin/sh
# This server takes its password from the environment only: it gets there here, not in the container's configuration.
set -eu
POSTGRES_PWD=$(cat "$POSTGRES_PASSWORD_FILE")
export POSTGRES_PWD
exec /etc/temporal/entrypoint.sh
