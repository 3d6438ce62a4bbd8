"""Who acts: tokens, sign-in, refusals; and secrets that come from files."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.cli.conftest import Certgate


@pytest.fixture
def rao(certgate: Certgate, tmp_path: Path) -> Path:
    """A token file of an administrator who may only ask for certificates."""
    (tmp_path / "password").write_text("a password that is long\n")
    added = certgate(
        *("administrator", "add", "--login", "rita", "--role", "rao", "--organization", "Default"),
        *("--password-file", str(tmp_path / "password"), "--json"),
    )
    assert added.value == {"login": "rita", "password": None}
    token = tmp_path / "token"
    said = certgate("administrator", "token", "rita", "--token-file", str(token), "--json")
    assert said.value == {"login": "rita", "token_file": str(token)}
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    return token


def test_a_token_decides_who_acts(certgate: Certgate, rao: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CERTGATE_TOKEN", rao.read_text())
    refused = certgate("organization", "add", "--name", "Mine")
    assert refused.code == 3
    assert "MRAO" in refused.err
    assert certgate("audit", "list").code == 3
    monkeypatch.setenv("CERTGATE_TOKEN", "cgt_wrong")
    assert certgate("organization", "list").code == 3
    monkeypatch.delenv("CERTGATE_TOKEN")
    trail = certgate("audit", "list", "--outcome", "refused", "--json").value
    assert [entry["actor"] for entry in trail] == ["rita", "rita"]


def test_login_keeps_a_token_and_logout_forgets_it(certgate: Certgate, rao: Path, home: Path, tmp_path: Path) -> None:
    assert certgate("login", "--token-file", str(rao), "--json").value == {"login": "rita"}
    assert stat.S_IMODE((home / "token").stat().st_mode) == 0o600
    assert certgate("organization", "add", "--name", "Mine").code == 3
    assert certgate("logout").code == certgate("logout").code == 0
    assert certgate("organization", "add", "--name", "Mine").code == 0
    assert certgate("login", "--login", "rita", "--password-file", str(tmp_path / "password")).code == 0
    assert certgate("organization", "add", "--name", "Another").code == 3
    certgate("logout")
    (tmp_path / "wrong").write_text("a password that is wrong\n")
    assert certgate("login", "--login", "rita", "--password-file", str(tmp_path / "wrong")).code == 3
    assert not (home / "token").exists()


def test_the_owner_of_the_home_is_named_as_such(certgate: Certgate) -> None:
    certgate("organization", "add", "--name", "Mine")
    (entry,) = certgate("audit", "list", "--action", "organization.added", "--json").value
    assert (entry["actor"], entry["access_method"]) == ("admin (owner of the home)", "command line")


def test_a_token_file_is_never_overwritten(certgate: Certgate, tmp_path: Path) -> None:
    target = tmp_path / "there"
    target.write_text("mine")
    assert certgate("gateway", "add", "--name", "x", "--token-file", str(target)).code == 2
    assert target.read_text() == "mine"
    assert certgate("gateway", "list", "--json").value == []
    assert certgate("gateway", "add", "--name", "a_b", "--token-file", str(tmp_path / "new")).code == 2
    assert not (tmp_path / "new").exists()


def test_revoked_tokens_are_void(certgate: Certgate, rao: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert certgate("administrator", "token", "rita", "--revoke", "--json").value == {"login": "rita", "revoked": 1}
    monkeypatch.setenv("CERTGATE_TOKEN", rao.read_text())
    assert certgate("organization", "list").code == 3


def test_roles_are_given_and_withdrawn_one_by_one(certgate: Certgate, rao: Path) -> None:
    certgate("organization", "add", "--name", "Acme")
    certgate("department", "add", "--organization", "Acme", "--name", "Shop")
    given = certgate(
        *("administrator", "grant", "rita", "--role", "drao", "--department", "Acme/Shop", "--privilege", "approve"),
        "--json",
    )
    usual = ["install", "renew", "request"]
    first = {"role": "RAO", "organizations": ["Default"], "departments": [], "privileges": usual}
    second = {"role": "DRAO", "organizations": [], "departments": ["Acme/Shop"], "privileges": ["approve"]}
    assert given.value == [first, second]
    assert certgate("administrator", "show", "rita", "--json").value["roles"] == [first, second]
    assert certgate("administrator", "list", "--organization", "Acme", "--json").value[0]["login"] == "rita"
    assert certgate("department", "show", "Shop", "--organization", "Acme", "--json").value["counts"] == {
        "gateways": 0,
        "open_requests": 0,
        "certificates": 0,
        "administrators": 1,
    }
    left = certgate("administrator", "withdraw", "rita", "--role", "rao", "--yes", "--json")
    assert left.value == [second]
    (token,) = certgate("administrator", "tokens", "rita", "--json").value
    assert token["expires_at"] > token["created_at"]


def test_the_overview_is_told_without_the_engine_too(
    certgate: Certgate, rao: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = certgate("overview", "--json")
    assert told.code == 0
    assert "is not known" in told.err
    assert told.value["gateways"] is None
    assert told.value["expiry"]["within"] == {"7": 0, "30": 0, "60": 0, "90": 0}
    assert told.value["first_steps"]["request"] is False
    assert "Valid certificates" in certgate("overview").out
    monkeypatch.setenv("CERTGATE_TOKEN", rao.read_text())
    assert certgate("overview", "--json").value["changes"] is None
