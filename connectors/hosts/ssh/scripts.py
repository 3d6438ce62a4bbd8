"""What is done on the host, as scripts for a POSIX shell with GNU coreutils and flock.

A script leaves with one of the statuses below, or with 1 after a tool has said on standard error what was wrong (in the
words of the C locale). The scripts that write clean up after themselves whatever ends them, a cut connection among
other things: it shows as an early end of the content.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from connectors.hosts.ssh.commands import line_of
from connectors.hosts.ssh.sudo import Root

FAILED, IN_THE_WAY, BUSY, CUT_OFF, GONE, FORBIDDEN = 1, 3, 4, 5, 6, 7
NEEDED = (
    *("cat", "chmod", "chown", "cp", "env", "flock", "head", "ln", "mv"),
    *("realpath", "rm", "setsid", "stat", "sync", "timeout"),
)

MISSING = 'for tool; do command -v "$tool" >/dev/null || printf "%s " "$tool"; done'

# Names may end in a line end, which $(…) would take away: hence the dot.
_REAL = """
real=$(realpath -- "$1" && echo .) || exit 1
real=${real%??}; folder=${real%/*}; folder=${folder:-/}
"""

# Only pathname expansion is done on what comes out of a variable when IFS is empty: nothing in it is run.
GLOB = """
IFS=
for path in $1; do if [ -e "$path" ] || [ -L "$path" ]; then printf '%s\\0' "$path"; fi; done
"""

# Arguments: path, umask, owner, group ('-': as made), mode, then parts: 'b:N' is N bytes of the input, 'f:PATH' a file.
# The lock tells a leftover of a killed attempt from another process that is at work, as on the local host.
WRITE = (
    'umask "$2"'
    + _REAL
    + """
new=$folder/.${real##*/}.certgate-new
if [ -e "$new" ] || [ -L "$new" ]; then
    if [ -L "$new" ] || [ ! -f "$new" ]; then printf '%s' "$new"; exit 3; fi
    exec 8<"$new" || exit 1
    flock -n 8 || exit 4
    rm -f -- "$new" || exit 1
    exec 8<&-
fi
set -C
exec 9>"$new" || exit 1
flock -n 9 || exit 4
trap 'rm -f -- "$new"' EXIT
trap 'exit 1' HUP INT TERM PIPE
if [ -e "$real" ]; then
    case $(LC_ALL=C ls -ldn -- "$real") in
        ??????????+*) cp --attributes-only --preserve=mode -T -- "$real" "$new" || exit 1;;
    esac
    if [ -e /sys/fs/selinux/enforce ]; then chcon --reference="$real" -- "$new" || exit 1; fi
fi
[ "$3" = - ] || [ "$3" = "$(stat -c %u -- "$new")" ] || chown -h -- "+$3" "$new" || exit 1
[ "$4" = - ] || [ "$4" = "$(stat -c %g -- "$new")" ] || chown -h -- ":+$4" "$new" || exit 1
chmod -- "$5" "$new" || exit 1
shift 5
whole=0
for part; do
    case $part in
        b:*) size=${part#b:}; head -c "$size" >&9 || exit 1;;
        f:*) size=$(stat -L -c %s -- "${part#f:}") || exit 1; cat -- "${part#f:}" >&9 || exit 1;;
    esac
    whole=$((whole + size))
done
[ "$(stat -c %s -- "$new")" -eq "$whole" ] || exit 5
sync -- "$new" || exit 1
mv -f -T -- "$new" "$real" || exit 1
trap - EXIT
sync -- "$folder"
"""
)

KEEP = (
    _REAL
    + """
if [ -e "$2" ] || [ -L "$2" ]; then
    [ "$(stat -c %d:%i -- "$2")" = "$(stat -c %d:%i -- "$real")" ] || exit 3
else
    ln -T -- "$real" "$2" || exit 1
fi
sync -- "$folder"
"""
)

PUT_BACK = (
    'if [ ! -e "$2" ] && [ ! -L "$2" ]; then exit 0; fi'
    + _REAL
    + """
if [ "$real" -ef "$2" ]; then rm -f -- "$2" || exit 1; else mv -f -T -- "$2" "$real" || exit 1; fi
sync -- "$folder"
"""
)

DELETE = """
if [ ! -e "$1" ] && [ ! -L "$1" ]; then exit 0; fi
rm -f -- "$1" || exit 1
folder=${1%/*}
sync -- "${folder:-/}"
"""

HANG_UP = """
if words=$(kill -s HUP "$1" 2>&1); then exit 0; fi
case $words in *[Nn]ot\\ permitted*) exit 7;; *[Nn]o\\ such\\ process*) exit 6;; esac
printf '%s' "$words" >&2; exit 1
"""

# The first line tells the process group, so that it can be ended; timeout(1) ends what we lost the connection to.
RUN = """
limit=$1; shift
cd /
case $1 in
    */*) [ -e "$1" ] || { echo missing; exit 127; }; [ -f "$1" ] && [ -x "$1" ] || { echo denied; exit 126; };;
    *) command -v -- "$1" >/dev/null || { echo missing; exit 127; };;
esac
exec setsid -w sh -c 'limit=$1; shift; echo "$$"
exec timeout -s KILL "$limit" env -i PATH="$PATH" LC_ALL=C "$@"' sh "$limit" "$@" </dev/null
"""

END = 'kill -s KILL -- "-$1"'

# A key that is not ended properly takes the rest of the file with it: rather too much than too little.
STRIP_KEYS = "sed -e '/-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----/,/-----END [A-Z0-9 ]*PRIVATE KEY-----/d'"

WITHOUT_KEYS = f'[ -f "$1" ] || [ ! -e "$1" ] || exit 3; exec <"$1" || exit 1; {STRIP_KEYS}'


def write_as_root(
    root: Root, path: str, new: str, *, mode: str, like: bool, owner: tuple[str, str] | None, source: str, size: int
) -> str:
    """`WRITE` for a file that only root may touch. `source` is a script whose output, of `size` bytes, is the content;
    `like` is True where the old file's owner, mode, access list and
    label are what is wanted. Whoever signs in to the account writes one file at a time: the lock is its home folder.
    """
    steps = [
        'exec 9<"$HOME" && flock -w 60 9 || exit 4',
        f"{line_of(root.remove(new))} || exit 1",
        f"trap {shlex.quote(line_of(root.remove(new)))} EXIT",
        "trap 'exit 1' HUP INT TERM PIPE",
        f"{line_of(root.create(new, mode))} || exit 1",
    ]
    if like:
        steps.append(f"{line_of(root.resemble(path, new))} || exit 1")
    if owner is not None:
        steps.append(f"{line_of(root.own(new, *owner))} || exit 1")
    steps += [
        f"{{ {source}; }} | {line_of(root.fill(new))} || exit 1",
        f"found=$({line_of(root.state(new))}) || exit 1",
        f'[ "$(echo "$found" | cut -d _ -f 4)" -eq {size} ] || exit 5',
        f"{line_of(root.move(new, path))} || exit 1",
        "trap - EXIT",
        line_of(root.sync(path.rpartition("/")[0] or "/")),
    ]
    return "\n".join(steps)


def make_key(generate: Sequence[str], root: Root, path: str, new: str) -> str:
    """Make a key at `path` unless one is there: written under the name `new`, then linked, so that it is whole and
    nobody's key is ever written over."""
    lock = 'exec 9<"$HOME" && flock -w 60 9 || exit 4' if root.prefix else "umask 077"
    return "\n".join(
        [
            lock,
            f"trap {shlex.quote(line_of(root.remove(new)))} EXIT",
            "trap 'exit 1' HUP INT TERM PIPE",
            f"if {line_of(root.state(path))} >/dev/null 2>&1; then exit 0; fi",
            f"{line_of(generate)} || exit 1",
            f"{line_of(root.sync(new))} || exit 1",
            f"{line_of(root.link(new, path))} || exit 1",
            line_of(root.sync(path.rpartition("/")[0] or "/")),
        ]
    )


def sign_from_file(root: Root, sign: Sequence[str], message: str, size: int) -> str:
    """Sign what comes on standard input with a command that wants it in a file."""
    return "\n".join(
        [
            'exec 9<"$HOME" && flock -w 60 9 || exit 4' if root.prefix else "umask 077",
            f"trap {shlex.quote(line_of(root.remove(message)))} EXIT",
            "trap 'exit 1' HUP INT TERM PIPE",
            f"{line_of(root.create(message, '0600'))} || exit 1",
            f"head -c {size} | {line_of(root.fill(message))} || exit 1",
            line_of(sign),
        ]
    )
