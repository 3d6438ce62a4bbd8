#!/usr/bin/env bash
# Makes this clone ready: .venv with the locked packages, this project in it (editable), and Debian packages.
#
# Usage: tools/setup.sh demo    what `make demo` and `make up` need
#        tools/setup.sh test    the same and everything for tests and linting
#
# Everything is said on stderr, so that a command's own stdout stays clean. A second run takes well under a second:
# stamp files in .venv hold the checksum of what was installed. Set PYTHON to choose the interpreter (3.11 or newer).
set -euo pipefail
cd "$(dirname "$0")/.."
exec 1>&2

target=${1:-demo}
case $target in
  demo) lock=runtime ;;
  test) lock=development ;;
  *) echo "setup: '$target' is neither 'demo' nor 'test'."; exit 2 ;;
esac

venv=.venv
python=$venv/bin/python
log=$venv/setup.log

say() { echo "setup: $*"; }
fail() { echo "setup: $*"; exit 1; }

# Runs a command quietly; if it fails, shows the end of what it said.
quietly() {
  if ! "$@" >>"$log" 2>&1 </dev/null; then
    tail -n 25 "$log"
    return 1
  fi
}

# ---------------------------------------------------------------------------------------------------- Debian packages

binary_present() {
  local candidate match
  local -a candidates
  IFS=, read -ra candidates <<<"$1"
  for candidate in "${candidates[@]}"; do
    case $candidate in
      /*) for match in $candidate; do [[ -e $match ]] && return 0; done ;;
      *) command -v "$candidate" >/dev/null && return 0
         [[ -x /usr/sbin/$candidate ]] && return 0 ;;   # not on an ordinary user's PATH, and still usable
    esac
  done
  return 1
}

missing_packages() {
  local group package binaries
  while read -r group package binaries; do
    [[ -z $group || $group == \#* ]] && continue
    [[ $group == test && $target != test ]] && continue
    binary_present "$binaries" || echo "$package"
  done <tools/debian-packages.txt
}

apt_install() {
  local policy=/usr/sbin/policy-rc.d
  if [[ ! -e $policy ]]; then
    # Debian starts a service when its package is installed. The programs are wanted here, never the services.
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  fi
  local -a install=(apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@")
  local output
  output=$(mktemp)
  if ! DEBIAN_FRONTEND=noninteractive "${install[@]}" >"$output" 2>&1 </dev/null; then
    # No package lists yet, or old ones.
    apt-get -qq -o DPkg::Lock::Timeout=300 update >>"$output" 2>&1 </dev/null || true
    DEBIAN_FRONTEND=noninteractive "${install[@]}" >>"$output" 2>&1 </dev/null || { tail -n 25 "$output"; rm -f "$output"; return 1; }
  fi
  rm -f "$output"
}

need_debian() {
  local -a packages
  mapfile -t packages < <(missing_packages)
  [[ ${#packages[@]} -eq 0 ]] && return
  local command="apt-get update && apt-get install -y --no-install-recommends ${packages[*]}"
  command -v apt-get >/dev/null || fail "Missing programs: ${packages[*]} (Debian's names). Install them with this system's own package manager."
  [[ $(id -u) -eq 0 ]] || fail "Missing programs. Run this as root, then try again:  $command"
  say "installing Debian packages: ${packages[*]} (about a minute)"
  apt_install "${packages[@]}" || fail "apt-get failed (its last lines are above). The command was:  $command"
  mapfile -t packages < <(missing_packages)
  [[ ${#packages[@]} -eq 0 ]] || fail "Still missing after installing: ${packages[*]}."
}

# ------------------------------------------------------------------------------------------------ virtual environment

find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3 python3.11 python3.12 python3.13 python3.14 /usr/bin/python3; do
    # Run it: a shim may be on PATH for a version that isn't there.
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 </dev/null; then
      "$candidate" -c 'import sys; print(sys.executable)'
      return
    fi
  done
  return 1
}

make_venv() {
  local base
  base=$(find_python) || fail "No Python 3.11 or newer was found; install one, or name it: PYTHON=/path/to/python3 make $target."
  say "making .venv with $("$base" --version)"
  # Debian splits ensurepip off into python3-venv; there are other ways to a pip.
  if "$base" -c 'import ensurepip, venv' >/dev/null 2>&1 && "$base" -m venv --clear $venv >/dev/null 2>&1; then
    return
  fi
  if "$base" -c 'import venv, pip' >/dev/null 2>&1 && "$base" -m venv --clear --without-pip $venv >/dev/null 2>&1 \
    && "$base" -m pip --python $python install --quiet pip >/dev/null 2>&1 </dev/null; then
    return
  fi
  if command -v uv >/dev/null && uv venv --quiet --clear --seed --no-python-downloads --python "$base" $venv >/dev/null 2>&1; then
    return
  fi
  if "$base" -m virtualenv --quiet --clear $venv >/dev/null 2>&1; then
    return
  fi
  local package
  package=python$("$base" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv
  if [[ $(id -u) -eq 0 ]] && command -v apt-get >/dev/null; then
    say "installing Debian package: $package"
    apt_install "$package" && "$base" -m venv --clear $venv >/dev/null 2>&1 && return
  fi
  rm -rf $venv
  fail "$base cannot make a virtual environment with pip. Run this as root, then try again:  apt-get update && apt-get install -y $package"
}

checksum() { cat "$@" | sha256sum | cut -d ' ' -f 1; }
stamped() { [[ -f $venv/stamp-$1 && $(<"$venv/stamp-$1") == "$2" ]]; }
stamp() { echo "$2" >"$venv/stamp-$1"; }

pip_install() { quietly $python -m pip install --quiet --disable-pip-version-check --no-input --require-hashes --no-deps --requirement "requirements/$1.txt"; }

# uv is several times as fast as pip, but does not read pip's settings. It is told the ones that matter, and if it fails all the
# same (a mirror that only pip can reach), pip does the work.
uv_install() {
  local index
  index=$($python -m pip config get global.index-url 2>/dev/null) || index=${PIP_INDEX_URL:-}
  (
    [[ -n $index && -z ${UV_DEFAULT_INDEX:-} ]] && export UV_DEFAULT_INDEX=$index
    [[ -n ${PIP_FIND_LINKS:-} && -z ${UV_FIND_LINKS:-} ]] && export UV_FIND_LINKS=$PIP_FIND_LINKS
    export UV_SYSTEM_CERTS=true
    $venv/bin/uv pip install --quiet --python $python --require-hashes --no-deps --compile-bytecode --requirement "requirements/$1.txt"
  ) >>"$log" 2>&1 </dev/null
}

need_packages() {
  local wanted
  wanted=$(checksum requirements/build.txt)
  if ! stamped build "$wanted"; then
    pip_install build || fail "pip could not install requirements/build.txt (its last lines are above); is the package index reachable?"
    stamp build "$wanted"
  fi
  wanted=$(checksum "requirements/$lock.txt")
  # The development set holds the runtime set, with the same versions.
  if ! stamped "$lock" "$wanted" && ! { [[ $lock == runtime ]] && stamped development "$(checksum requirements/development.txt)"; }; then
    say "installing $(grep -c '^[a-z]' "requirements/$lock.txt") Python packages into .venv (one to three minutes the first time)"
    uv_install "$lock" || pip_install "$lock" \
      || fail "pip could not install requirements/$lock.txt (its last lines are above); is the package index reachable?"
    stamp "$lock" "$wanted"
  fi
  wanted=$(checksum pyproject.toml requirements/build.txt)
  if ! stamped project "$wanted"; then
    quietly $python -m pip install --quiet --disable-pip-version-check --no-input --no-deps --no-build-isolation --no-index --editable . \
      || fail "This project could not be installed into .venv (the last lines are above)."
    stamp project "$wanted"
  fi
}

# The OpenID Connect provider of the tests runs on node. Both come from packages: node from the wheel in the development set,
# the provider by npm from a lock that holds versions and checksums and no address, like requirements/.
need_provider() {
  local wanted folder=$venv/provider
  wanted=$(checksum tests/support/provider/package.json tests/support/provider/package-lock.json requirements/development.txt)
  stamped provider "$wanted" && return
  rm -rf "$folder"
  mkdir -p "$folder"
  cp tests/support/provider/package.json tests/support/provider/package-lock.json "$folder/"
  # The wheel's own npm, and its node before any other.
  PATH="$PWD/$venv/bin:$PATH" quietly npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --no-update-notifier \
    || fail "npm could not install tests/support/provider (its last lines are above); is the npm registry reachable?"
  stamp provider "$wanted"
}

need_debian
# A copied or moved clone has a .venv whose programs point elsewhere; an upgraded system may have taken its interpreter away.
if ! stamped place "$PWD" || ! $python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
  make_venv
  stamp place "$PWD"
fi
need_packages
if [[ $target == test ]]; then need_provider; fi
