#!/bin/sh
# Makes deploy/secrets/ for docker-compose.yml. What is there already is kept; nothing is printed.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets
# A secret that comes from a file keeps its owner and mode inside a container, where another user has to read it. So the
# files are readable and the folder is closed: on this machine nobody else gets as far as the files.
chmod 700 secrets
random() { od -An -N"${1:-24}" -tx1 /dev/urandom | tr -d ' \n'; }
keep() {
  [ -s "secrets/$1" ] && return
  printf '%s' "$2" >"secrets/$1.new"
  chmod 444 "secrets/$1.new"
  mv "secrets/$1.new" "secrets/$1"
}
keep temporal_database_password "$(random)"
keep database_password "$(random)"
# The manager's key, which gateways know this certgate by: any 32 bytes are an X25519 private key.
keep manager_key "$(random 32)"
keep database_url "postgresql+psycopg://certgate:$(cat secrets/database_password)@database:5432/certgate"
