#!/bin/sh
# Joins with the enrollment token the first time, then runs. A token that was used is worth nothing and goes.
set -eu
home=/home/certgate/gateway
if [ -e /enrollment/token ]; then
  certgate gateway join --token-file /enrollment/token --gateway-home "$home"
  rm -f /enrollment/token
fi
exec certgate gateway run --gateway-home "$home"
