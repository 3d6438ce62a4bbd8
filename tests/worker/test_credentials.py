"""References in processes: the server of the settings file, of a gateway's own file, or of the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.errors import Permanent
from model.errors import InvalidInput
from tests.support.openbao import OpenBao
from worker import gateway_home, settings
from worker.credentials import from_environment, resolver

HIDDEN = "s3cret-that-nobody-sees"


def configured(folder: Path, openbao: OpenBao) -> str:
    """``[vault]`` for that server, signing in by AppRole."""
    folder.mkdir(mode=0o700, exist_ok=True)
    secret = folder / "secret-id"
    secret.write_text(openbao.secret_id())
    secret.chmod(0o600)
    lines = [
        "[vault]",
        f'address = "{openbao.address}"',
        f'ca_file = "{openbao.ca_file}"',
        f'role_id = "{openbao.role_id()}"',
        f'secret_id = "file:{secret}"',
        'namespace = ""',
        "",
    ]
    return "\n".join(lines)


def test_the_server_of_the_settings_file(openbao: OpenBao, tmp_path: Path) -> None:
    openbao.ask("POST", "secret/data/certgate/worker", {"data": {"password": HIDDEN}})
    home = tmp_path / "home"
    (tmp_path / "home").mkdir(mode=0o700)
    (home / settings.FILE_NAME).write_text(configured(home, openbao))
    read = settings.load(home, {})
    resolve = resolver(read.vault)
    assert resolve("vault:secret/certgate/worker#password") == HIDDEN.encode()
    assert resolver(settings.load(home, {}).vault) is resolve  # one sign-in for the process


def test_a_gateway_has_its_own_or_that_of_its_manager(openbao: OpenBao, tmp_path: Path) -> None:
    manager, folder = tmp_path / "manager", tmp_path / "gateway"
    manager.mkdir(mode=0o700)
    (manager / settings.FILE_NAME).write_text(configured(manager, openbao))
    home = gateway_home.write(folder, 7, "west", manager_home=manager)
    assert home.settings().vault == settings.load(manager, {}).vault
    file = folder / gateway_home.FILE_NAME
    file.write_text(file.read_text() + "\n" + configured(folder, openbao))
    own = gateway_home.read(folder)
    assert own.vault is not None
    assert own.settings().vault == own.vault != settings.load(manager, {}).vault
    enrolled = gateway_home.Enrolled(2, "0123456789ab", "key")
    again = gateway_home.write(folder, 7, "west", enrolled=enrolled)  # another channel
    assert again.vault == own.vault


def test_the_server_of_the_environment(openbao: OpenBao, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert from_environment({}, tmp_path) is None
    openbao.ask("POST", "old/certgate/worker", {"password": HIDDEN})
    monkeypatch.setenv("BAO_ADDR", openbao.address)
    monkeypatch.setenv("BAO_CACERT", str(openbao.ca_file))
    monkeypatch.setenv("HOME", str(tmp_path))
    token = tmp_path / ".vault-token"
    token.write_text(openbao.token("certgate-kv", ttl="1h"))
    token.chmod(0o600)
    resolver.cache_clear()
    assert resolver(None)("vault:old/certgate/worker#password") == HIDDEN.encode()
    resolver.cache_clear()
    found = from_environment({"VAULT_ADDR": "https://vault.example.com", "VAULT_TOKEN": HIDDEN}, tmp_path)
    assert found is not None
    assert found.token == "env:VAULT_TOKEN"
    with pytest.raises(Permanent, match="VAULT_ADDR and what belongs to it can't be used: 'address'"):
        from_environment({"VAULT_ADDR": "http://vault.example.com", "VAULT_TOKEN": HIDDEN}, tmp_path)


def test_without_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BAO_ADDR", "VAULT_ADDR"):
        monkeypatch.delenv(name, raising=False)
    resolver.cache_clear()
    with pytest.raises(Permanent, match=r"this process knows none: set \[vault\]"):
        resolver(None)("vault:secret/certgate/worker#password")


def test_what_signs_in_is_not_in_the_server_itself(tmp_path: Path) -> None:
    file = tmp_path / settings.FILE_NAME
    file.write_text('[vault]\naddress = "https://vault.example.com"\ntoken = "vault:secret/x#token"\n')
    with pytest.raises(InvalidInput, match="not by what it holds itself"):
        settings.load(tmp_path, {})
    file.write_text(f'[vault]\naddress = "https://vault.example.com"\ntoken = "{HIDDEN}"\n')
    with pytest.raises(InvalidInput, match="not the secret itself") as caught:
        settings.load(tmp_path, {})
    assert HIDDEN not in caught.value.message
