"""What holds for all commands: exit codes, one sentence on stderr, JSON on stdout, no secrets as arguments."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.main import app
from model.database import Database
from model.tables import Gateway
from tests.cli.conftest import Certgate
from tools import cli_reference


def commands() -> Iterator[tuple[str, Any]]:
    """Every command with its full name."""

    def walk(command: Any, path: list[str]) -> Iterator[tuple[str, Any]]:
        if hasattr(command, "commands"):
            for name, one in command.commands.items():
                yield from walk(one, [*path, name])
        else:
            yield " ".join(path), command

    yield from walk(typer.main.get_command(app), [])


COMMANDS = dict(commands())


def test_the_reference_is_up_to_date() -> None:
    assert cli_reference.PAGE.read_text(encoding="utf-8") == cli_reference.page(), "run tools/cli_reference.py"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    for parameter in command.params:
        named = re.search(r"(password|token|secret|passphrase)$", parameter.name)
        assert not named or getattr(parameter, "is_flag", False), "a secret is never an argument"


@pytest.mark.parametrize("name", [name for name in COMMANDS if name.split()[-1] in ("list", "show", "version")])
def test_whatever_prints_data_prints_json(name: str) -> None:
    assert any("--json" in parameter.opts for parameter in COMMANDS[name].params)


@pytest.mark.parametrize(
    "name", [name for name in COMMANDS if name.split()[-1] in ("remove", "delete", "revoke", "deactivate")]
)
def test_whatever_destroys_asks(name: str) -> None:
    assert any("--yes" in parameter.opts for parameter in COMMANDS[name].params)


WRONG = [
    (["frobnicate"], 2, "frobnicate"),
    (["request", "frobnicate"], 2, "frobnicate"),
    (["request", "list", "--frobnicate"], 2, "--frobnicate"),
    (["request", "submit"], 2, "--common-name"),
    (["request", "show", "x"], 2, "'ID'"),
    (["request", "show", "99"], 2, "99"),
    (["request", "list", "--status", "PERHAPS"], 2, "PERHAPS"),
    (["request", "list", "--limit", "0"], 2, "--limit"),
    (["request", "decline", "99"], 2, "--comment"),
    (["certificate", "show", "99"], 2, "99"),
    (["certificate", "revoke", "1", "--reason", "bored"], 2, "bored"),
    (["campaign", "show", "99"], 2, "99"),
    (["campaign", "preview"], 2, "which certificates"),
    (["campaign", "preview", "--ca", "nowhere"], 2, "nowhere"),
    (["campaign", "preview", "--search", "x", "--way", "move"], 2, "moved to"),
    (["campaign", "preview", "--search", "x", "--rate", "0"], 2, "an hour"),
    (["campaign", "preview", "--serials", "/nonexistent"], 2, "/nonexistent"),
    (["campaign", "create", "--name", "x", "--search", "x"], 1, "No certificate was chosen"),
    (["campaign", "rate", "1"], 2, "an hour"),
    (["gateway", "show", "nowhere"], 2, "nowhere"),
    (["gateway", "add", "--name", "a_b"], 2, "letters"),
    (["gateway", "add", "--name", "x", "--delegation-mode", "customized"], 2, "at least one"),
    (["gateway", "delegate", "nowhere", "--general"], 2, "nowhere"),
    (["gateway", "join", "--token-file", "/nonexistent", "--gateway-home", "/nonexistent/x"], 2, "read"),
    (["gateway", "run", "--gateway-home", "/nonexistent"], 2, "gateway join"),
    (["endpoint", "list", "--gateway", "nowhere"], 2, "nowhere"),
    (["endpoint", "add", "--gateway", "nowhere", "--name", "x", "--type", "nginx"], 2, "nowhere"),
    (["endpoint", "add", "--gateway", "x", "--name", "x", "--type", "nginx", "--set", "novalue"], 2, "KEY=VALUE"),
    (["organization", "show", "nowhere"], 2, "nowhere"),
    (["organization", "add", "--name", ""], 2, "1 to 128"),
    (["organization", "add", "--name", "Default"], 1, "already"),
    (["organization", "remove", "Default"], 2, "--yes"),
    (["profile", "remove", "nowhere", "--yes"], 2, "nowhere"),
    (["profile", "add", "--name", "x", "--ca", "private", "--validity", "forever"], 2, "forever"),
    (["policy", "edit", "default", "--approvals", "0"], 2, "approvals"),
    (["administrator", "token", "admin", "--lifetime", "1y"], 2, "1y"),
    (["administrator", "password", "admin"], 2, "file"),
    (["administrator", "deactivate", "admin", "--yes"], 1, "last"),
    (["administrator", "grant", "nobody", "--role", "mrao"], 2, "nobody"),
    (["administrator", "grant", "admin", "--role", "rao"], 2, "given with organizations"),
    (["administrator", "withdraw", "admin", "--role", "mrao"], 2, "--yes"),
    (["administrator", "withdraw", "admin", "--role", "mrao", "--yes"], 1, "last"),
    (["department", "show", "Web", "--organization", "Default"], 2, "'Web'"),
    (["policy", "edit", "default", "--name", ""], 2, "1 to 128"),
    (["ca", "show", "nowhere"], 2, "nowhere"),
    (["ca", "release", "private", "P-000001"], 1, "P-000001"),
    (["trust", "add", "/nonexistent"], 2, "/nonexistent"),
    (["audit", "list", "--since", "yesterday"], 2, "yesterday"),
    (["audit", "list", "--since", "0001-01-01T00:00:00+05:00"], 2, "is not a time"),
    (["audit", "list", "--since", "2026-02-01", "--until", "2026-01-01"], 2, "ends before it begins"),
    (["audit", "list", "--object", "request:x"], 2, "request:x"),
    (["audit", "list", "--object", ":7"], 2, "TYPE:ID"),
    (["audit", "list", "--search", "x" * 300], 2, "256 characters"),
    (["audit", "list", "--gateway", "nowhere"], 2, "There is no gateway 'nowhere'"),
    (["audit", "list", "--before", "0"], 2, "--before"),
    (["audit", "show", "99999999999999999999"], 2, "There is no entry"),
    (["audit", "export", "--format", "json"], 2, "json"),
    (["audit", "verify", "--known", "7"], 2, "NUMBER:HASH"),
    (["notification", "seen"], 2, "--all"),
    (["notification", "seen", "1", "--all"], 2, "--all"),
    (["notification", "seen", "99999999999999999999"], 2, "no notification"),
    (["notification", "test"], 2, "No way is set up"),
    (["replay", "/nonexistent"], 2, "/nonexistent"),
    (["login"], 2, "Token"),
    (["doctor"], 1, "checks"),
]


@pytest.mark.parametrize(
    ("words", "code", "told"), WRONG, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_wrong_words_get_one_sentence(certgate: Certgate, words: list[str], code: int, told: str) -> None:
    said = certgate(*words)
    assert (said.code, "Traceback" in said.err) == (code, False), said
    assert told in said.err
    if words != ["doctor"]:
        assert said.out == ""
        assert len(said.err.splitlines()) == 1


def test_without_a_home_nothing_is_made(certgate: Certgate, tmp_path: Path) -> None:
    said = certgate("request", "list", on=tmp_path / "nowhere")
    assert said.code == 1
    assert "certgate up" in said.err
    assert not (tmp_path / "nowhere").exists()


def test_debug_shows_where(certgate: Certgate, home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "--home", str(home), "--debug", "request", "show", "99"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("There is no request 99")


def test_help_loads_no_engine_and_no_database() -> None:
    program = (
        "import sys; from cli.main import run; run(['--help']); run(['request', 'submit', '--help']);"
        "print([name for name in ('temporalio', 'sqlalchemy', 'streamlit', 'cryptography') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_json_is_one_value_and_stdout_holds_nothing_else(certgate: Certgate) -> None:
    for words in (
        "request list",
        "certificate list",
        "gateway list",
        "endpoint list",
        "organization list",
        "department list",
        "administrator list",
        "profile list",
        "policy list",
        "ca list",
        "trust list",
        "audit list",
        "ca orders private",
    ):
        said = certgate(*words.split(), "--json")
        assert said.code == 0, (words, said)
        assert isinstance(said.value, list), words
    exported = [json.loads(line)["sequence"] for line in certgate("audit", "export").out.splitlines()]
    # The export itself is told after what it exports.
    listed = [row["sequence"] for row in certgate("audit", "list", "--json").value]
    assert listed == [exported[-1] + 1, *reversed(exported)]


def test_a_gateway_has_the_documented_keys(certgate: Certgate) -> None:
    certgate("gateway", "add", "--name", "Hamburg 1", "--comments", "north")
    (gateway,) = certgate("gateway", "list", "--json").value
    assert {"id": 1, "name": "Hamburg 1", "delegation_mode": "GENERAL", "comments": "north"}.items() <= gateway.items()
    # The engine is not there: the list is all the same, and says so.
    assert gateway["status"] is None
    assert "status is not known" in certgate("gateway", "list").err


def test_tables_fit_into_a_hundred_columns(certgate: Certgate) -> None:
    certgate("gateway", "add", "--name", "x" * 128, "--comments", "y" * 256)
    for words in (["gateway", "list"], ["audit", "list"], ["doctor"], ["profile", "list"], ["policy", "list"]):
        said = certgate(*words)
        assert max(len(line) for line in said.out.splitlines()) <= 100, said.out


def test_what_others_typed_does_not_command_the_terminal(certgate: Certgate, home: Path) -> None:
    hostile = "\x1b]0;title\x07red\u202e"
    refused = certgate("gateway", "add", "--name", "x", "--comments", hostile)
    assert (refused.code, "control characters" in refused.err) == (2, True)
    # However it came into the database, it is harmless on a terminal.
    database = Database(f"sqlite:///{home}/certgate.db")
    with database.write() as session:
        session.add(Gateway(name="x", name_key="x", comments=hostile, created_at=datetime.now(UTC)))
    database.close()
    said = certgate("gateway", "show", "x")
    assert not {"\x1b", "\x07", "\u202e"} & set(said.out)
    assert certgate("gateway", "show", "x", "--json").value["comments"] == "\x1b]0;title\x07red\u202e"


def test_times_are_utc_and_fingerprints_plain(certgate: Certgate) -> None:
    (root,) = certgate("trust", "list", "--json").value
    assert re.fullmatch(r"[0-9a-f]{64}", root["fingerprint"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", root["not_after"])


def test_a_broken_trail_is_told(certgate: Certgate, home: Path) -> None:
    import sqlite3

    assert certgate("audit", "verify", "--json").value["ok"] is True
    connection = sqlite3.connect(home / "certgate.db")
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute("DELETE FROM audit_entry WHERE sequence = (SELECT max(sequence) FROM audit_entry)")
    connection.commit()
    connection.close()
    said = certgate("audit", "verify", "--json")
    assert (said.code, said.value["ok"]) == (1, False)
    assert said.value["finding"]["problem"] in said.err


def test_the_trail_is_exported_into_a_new_file(certgate: Certgate, tmp_path: Path) -> None:
    target = tmp_path / "trail.csv"
    assert certgate("audit", "export", "--format", "csv", "--output", str(target)).code == 0
    assert target.read_bytes().startswith(b"sequence,time,actor,")
    assert certgate("audit", "export", "--output", str(target)).code == 2
    assert certgate("audit", "export", "--output", str(tmp_path / "no" / "folder")).code == 2


def test_the_trail_is_paged_by_what_was_said(certgate: Certgate) -> None:
    for name in ("One", "Two", "Three"):
        assert certgate("organization", "add", "--name", name).code == 0
    said = certgate("audit", "list", "--action", "organization.added", "--limit", "2", "--json")
    assert ["Three" in said.value[0]["description"], "Two" in said.value[1]["description"]] == [True, True]
    number = said.value[-1]["sequence"]
    assert f"older ones with --before {number}." in said.err
    (last,) = certgate("audit", "list", "--action", "organization.added", "--before", str(number), "--json").value
    assert "One" in last["description"]
    shown = certgate("audit", "show", str(number), "--json").value
    assert shown["row"]["sequence"] == number
    verified = certgate("audit", "verify", "--json").value
    assert certgate("audit", "verify", "--known", f"{verified['entries']}:{verified['head']}").code == 0
    told = certgate("audit", "verify", "--known", f"{number}:{'0' * 64}")
    assert (told.code, f"entry {number} is not the one that was known" in told.err) == (1, True)
    assert shown["hash"] == certgate("audit", "show", str(number + 1), "--json").value["previous_hash"]


def test_version_is_printed(certgate: Certgate) -> None:
    assert json.loads(certgate("version", "--json").out)["certgate"]
