"""The gateway's own file: what it may say, where it is wrong, and that an edit keeps what people wrote."""

from __future__ import annotations

import re
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from activities import modules_file
from connectors.errors import Permanent
from model.rules import modules


def edit(home: Path, changes: dict[str, Any], revision: int = 1) -> modules_file.Edited:
    """Edit what is there."""
    return modules_file.edit(home, expected=modules_file.read(home).digest, revision=revision, changes=changes)


def test_no_file_is_no_revision_and_the_first_edit_makes_one(tmp_path: Path) -> None:
    assert modules_file.read(tmp_path) == modules_file.Found(None)
    assert edit(tmp_path, {"endpoint:web": {"type": "nginx"}}).written
    path = tmp_path / modules_file.FILE_NAME
    assert path.stat().st_mode & 0o777 == 0o600
    assert modules_file.read(tmp_path) == modules_file.Found(1, {"endpoint:web": {"type": "nginx"}})
    assert "certgate gateway modules" in path.read_text()
    assert sorted(one.name for one in tmp_path.iterdir()) == [modules_file.FILE_NAME]


HAND_WRITTEN = """\
# ours, see ticket 815
revision = 3   # whatever this is

[endpoints.web]        # the shop
type = "nginx"
# the old machine had another path
settings.configuration = "/etc/nginx/nginx.conf"
settings.reload_timeout_seconds = 30.0

[endpoints.web.window]
cron = "0 2 * * 6"     # Saturdays

[keystores."a.b"]
type = "pem"
settings = { folder = "/var/keys" }  # not on NFS

[endpoints."gone"]
type = "nginx"

[properties]
comments = '''
two
lines'''
"""


def test_an_edit_keeps_every_word_that_it_does_not_have_to_change(tmp_path: Path) -> None:
    path = tmp_path / modules_file.FILE_NAME
    path.write_text(HAND_WRITTEN)
    before = modules_file.read(tmp_path)
    assert set(before.document) == {"endpoint:web", "endpoint:gone", "keystore:a.b", "property:comments"}
    web = {**before.document["endpoint:web"], "install": "manual", "window": {"cron": "0 3 * * 6", "minutes": 90}}
    assert edit(tmp_path, {"endpoint:web": web, "endpoint:gone": None, "endpoint:new": {"type": "nginx"}}, 4).written
    after = modules_file.read(tmp_path)
    assert after.revision == 4
    assert after.document["endpoint:web"] == web
    assert set(after.document) == {"endpoint:web", "endpoint:new", "keystore:a.b", "property:comments"}
    text = path.read_text()
    for words in ("# ours, see ticket 815", "# the shop", "# the old machine had", "# not on NFS", "# Saturdays"):
        assert words in text
    assert (tmp_path / modules_file.BACKUP_NAME).read_text() == HAND_WRITTEN


def test_a_file_that_was_saved_meanwhile_is_left_alone_and_an_edit_made_before_is_well(tmp_path: Path) -> None:
    path = tmp_path / modules_file.FILE_NAME
    path.write_text('[endpoints.a]\ntype = "nginx"\n')
    seen = modules_file.read(tmp_path).digest
    path.write_text('[endpoints.b]\ntype = "nginx"\n')
    assert not modules_file.edit(tmp_path, expected=seen, revision=1, changes={"endpoint:a": None}).written
    assert "endpoints.b" in path.read_text()
    seen = modules_file.read(tmp_path).digest
    # A comment is not a change of what the file says.
    path.write_text('[endpoints.b] # ours\ntype = "nginx"\n')
    for _ in range(2):
        edited = modules_file.edit(tmp_path, expected=seen, revision=1, changes={"endpoint:a": {"type": "nginx"}})
        assert edited.written
        assert edited.digest == modules_file.read(tmp_path).digest


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"[endpoints.a\n", "line 1"),
        (b"\n\nrevision = -1\n", "line 3"),
        (b"revision = true\n", "line 1"),
        (b"[colours]\n", "line 1: there is no such key 'colours'"),
        (b"endpoints = 3\n", "line 1: endpoints must be a table"),
        (b"a = 1\n\xff\n", "line 2: this is not UTF-8"),
        (b"#" * (modules.LARGEST + 1), "longer than 256 KiB"),
        (b"a = " + b"[" * 5000, "not a TOML file"),
    ],
)
def test_what_is_no_usable_file_is_told_with_its_line(tmp_path: Path, text: bytes, told: str) -> None:
    (tmp_path / modules_file.FILE_NAME).write_bytes(text)
    with pytest.raises(Permanent, match=told):
        modules_file.read(tmp_path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[endpoints.web]\ntype = "nginx"\n\n[endpoints.bad]\ntype = "nginx"\ncolour = "red"\n', "line 6"),
        ('[endpoints.web]\ntype = "nginx"\n[endpoints.bad]\n# here\ntype = "ngnix"\n', "ngnix"),
        ('[endpoints.bad]\ntype = "nginx"\n[endpoints.bad.settings]\nport = 1\n', "line 4"),
        ('[endpoints.bad]\ntype = "nginx"\nsettings = { configuration = "relative" }\n', "line 3"),
        ('[endpoints.bad]\ntype = "nginx"\ncredential = "hunter2"\n', "line 3.*not the secret itself"),
        ('[keystores.bad]\ntype = "pem"\nsettings.passphrase = "hunter2"\n', "line 3.*not the secret itself"),
        ('[endpoints.bad]\ntype = "nginx"\nsettings = { address = 2026-11-24 }\n', "date or time"),
        ('[properties]\nbad = "hunter2"\n', "line 2"),
    ],
)
def test_a_bad_entry_is_told_with_file_line_and_key_and_never_its_value(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / modules_file.FILE_NAME).write_text(text)
    found = modules_file.read(tmp_path)
    (problem,) = found.unusable.values()
    assert problem.startswith(f"{tmp_path / modules_file.FILE_NAME}, line ")
    assert "hunter2" not in problem
    assert re.search(told, problem)
    assert not any("bad" in key for key in found.document)
    # And an edit of something else leaves it where it is.
    assert edit(tmp_path, {"endpoint:other": {"type": "nginx"}}).written
    assert modules_file.read(tmp_path).unusable.keys() == found.unusable.keys()


def test_what_this_gateway_can_not_have_is_refused_by_itself(tmp_path: Path) -> None:
    edited = edit(tmp_path, {"endpoint:a": {"type": "f5-of-the-future"}, "endpoint:b": {"type": "nginx"}})
    assert edited.written
    assert "f5-of-the-future" in edited.refused["endpoint:a"]
    assert set(modules_file.read(tmp_path).document) == {"endpoint:b"}


def test_a_line_that_can_not_be_written_leaves_the_file_whole(tmp_path: Path) -> None:
    path = tmp_path / modules_file.FILE_NAME
    path.write_text('[properties]\ncomments = "kept"\n')
    wide = {"type": "nginx", "settings": {"address": "a" * 200_000}}
    with pytest.raises(Permanent, match="longer than"):
        edit(tmp_path, {"endpoint:a": wide, "endpoint:b": wide})
    assert path.read_text() == '[properties]\ncomments = "kept"\n'
    real = tmp_path / "elsewhere.toml"
    path.rename(real)
    path.symlink_to(real)
    assert edit(tmp_path, {"endpoint:a": {"type": "nginx"}}).written
    assert path.is_symlink()
    assert "kept" in real.read_text()


names = st.text(string.printable.strip() + "äß漢'\"\\#=.[]", min_size=1, max_size=12).filter(
    lambda name: name == name.strip() and name.isprintable()
)
words = st.text(min_size=1, max_size=12).filter(lambda text: text.isprintable())
endpoints = st.fixed_dictionaries(
    {"type": st.just("nginx")},
    optional={
        "install": st.just("manual"),
        "settings": st.fixed_dictionaries(
            {"address": words.filter(lambda text: ":" not in text)},
            optional={
                "command": st.lists(words, min_size=1, max_size=3),
                "reload_timeout_seconds": st.floats(1, 600, allow_nan=False),
            },
        ),
        "window": st.fixed_dictionaries({"cron": st.just("0 2 * * 6")}, optional={"minutes": st.integers(61, 900)}),
    },
)
documents = st.dictionaries(names.map(lambda name: f"endpoint:{name}"), endpoints, max_size=4)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(first=documents, second=documents)
def test_whatever_is_written_is_read_again(tmp_path: Path, first: dict[str, Any], second: dict[str, Any]) -> None:
    for left in tmp_path.iterdir():
        left.unlink()
    assert edit(tmp_path, first, 1).written
    assert modules_file.read(tmp_path) == modules_file.Found(1, first)
    changes = {**dict.fromkeys(first), **second}
    assert edit(tmp_path, changes, 2).written
    assert modules_file.read(tmp_path) == modules_file.Found(2, second)
