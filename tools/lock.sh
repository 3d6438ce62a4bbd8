#!/usr/bin/env bash
# Regenerates requirements/*.txt from pyproject.toml. The files hold versions and hashes, and no address: whoever installs
# uses the package index that his own machine is set up for. See docs/decisions for why this format.
#
# Usage: tools/lock.sh [--upgrade]     (without it, versions that still fit are kept)
set -euo pipefail
cd "$(dirname "$0")/.."

uv=uv
[[ -x .venv/bin/uv ]] && uv=.venv/bin/uv
compile() {
  local output=$1
  shift
  echo "lock: requirements/$output" >&2
  "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --no-emit-index-url --no-emit-find-links --no-header --output-file "requirements/$output" "$@" >/dev/null
}

mkdir -p requirements
# Development first: the runtime file then takes its versions, so that tests run with what users get.
compile development.txt pyproject.toml --extra dev "$@"
compile runtime.txt pyproject.toml --constraint requirements/development.txt "$@"
compile build.txt --group build --constraint requirements/development.txt "$@"
# Which file set the constraint is not worth a line for every package.
sed -i '/^    #\( via\)\?  *-c requirements\/development.txt$/d' requirements/*.txt

if grep -nE '[a-z+]+://|^ *--(index|extra-index|find-links)' requirements/*.txt; then
  echo "lock: an address got into the lines above; nothing in requirements/ may name one." >&2
  exit 1
fi
