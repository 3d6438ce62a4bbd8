"""What an installation is told about itself, and what it says to wrong words."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest

from model.errors import InvalidInput, Unavailable
from worker.connection import outside_config
from worker.settings import load


def write(home: Path, text: str) -> None:
    home.mkdir(exist_ok=True)
    (home / "certgate.toml").write_text(text)


def test_a_fresh_home_is_closed_to_others_and_has_the_defaults(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    settings = load(home, {})
    assert settings.home == home
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert settings.database_url.get_secret_value() == f"sqlite:///{home}/certgate.db"
    assert not settings.temporal.outside
    assert (settings.temporal.port, settings.temporal.ui_port, settings.dashboard.port) == (7233, 8233, 8501)


def test_the_home_comes_from_the_option_then_the_variable(tmp_path: Path) -> None:
    assert load(None, {"CERTGATE_HOME": str(tmp_path / "a")}).home == tmp_path / "a"
    assert load(tmp_path / "b", {"CERTGATE_HOME": str(tmp_path / "a")}).home == tmp_path / "b"


def test_a_home_has_one_name_however_it_is_reached(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "home")
    assert load(tmp_path / "link", {}).home == load(tmp_path / "home", {}).home


def test_a_home_that_cannot_be_made_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match=r"cannot be made: .*--home"):
        load(tmp_path / "file" / "home", {})


def test_the_file_is_read_and_the_environment_wins(tmp_path: Path) -> None:
    write(
        tmp_path,
        '[database]\nurl = "postgresql://file"\n[dashboard]\nport = 1\n[temporal]\nport = 0\nretention_days = 3',
    )
    settings = load(tmp_path, {})
    assert settings.database_url.get_secret_value() == "postgresql://file"
    assert (settings.dashboard.port, settings.temporal.port, settings.temporal.retention_days) == (1, 0, 3)
    settings = load(tmp_path, {"CERTGATE_DATABASE_URL": "postgresql://variable", "CERTGATE_DASHBOARD_PORT": "2"})
    assert settings.database_url.get_secret_value() == "postgresql://variable"
    assert settings.dashboard.port == 2


def test_the_documented_example_is_valid(tmp_path: Path) -> None:
    from worker import settings as module

    assert module.__doc__ is not None
    example = module.__doc__.split("```toml")[1].split("```")[0].replace("<home>", str(tmp_path))
    write(tmp_path, example)
    assert load(tmp_path, {}).temporal == load(tmp_path / "other", {}).temporal.model_copy(
        update={"namespace": "default"}
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[temporal]\nprot = 1", "certgate.toml is wrong: there is no key 'temporal.prot'."),
        ("[temporal]\nport = 70000", "'temporal.port': input should be less than or equal to 65535"),
        ("[temporal]\nretention_days = 0", "'temporal.retention_days'"),
        ("colour = 1", "there is no key 'colour'"),
        ("[temporal", "is not valid TOML"),
    ],
)
def test_a_wrong_file_is_refused_with_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    write(tmp_path, text)
    with pytest.raises(InvalidInput) as refused:
        load(tmp_path, {})
    assert sentence in refused.value.message
    assert "\n" not in refused.value.message


def test_a_wrong_variable_is_refused_without_showing_it(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"dashboard|port") as refused:
        load(tmp_path, {"CERTGATE_DASHBOARD_PORT": "hunter2"})
    assert "hunter2" not in refused.value.message


def test_secrets_come_from_files_and_never_show(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("postgresql://u:hunter2@db/certgate\n")
    settings = load(tmp_path / "home", {"CERTGATE_DATABASE_URL_FILE": str(secret)})
    assert settings.database_url.get_secret_value() == "postgresql://u:hunter2@db/certgate"
    assert "hunter2" not in repr(settings) + str(settings) + settings.model_dump_json()
    with pytest.raises(Unavailable, match="CERTGATE_DATABASE_URL_FILE"):
        load(tmp_path / "home", {"CERTGATE_DATABASE_URL_FILE": str(tmp_path / "absent")})
    secret.write_text("\n")
    with pytest.raises(InvalidInput, match="is empty"):
        load(tmp_path / "home", {"CERTGATE_DATABASE_URL_FILE": str(secret)})


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in list(os.environ):
        if name.startswith("TEMPORAL_"):
            monkeypatch.delenv(name)
    return monkeypatch


def test_an_outside_cluster_by_the_sdk_s_own_variables(tmp_path: Path, clean_environment: pytest.MonkeyPatch) -> None:
    for name, value in {
        "TEMPORAL_ADDRESS": "cluster.example:7233",
        "TEMPORAL_NAMESPACE": "certs",
        "TEMPORAL_API_KEY": "hunter2",
    }.items():
        clean_environment.setenv(name, value)
    settings = load(tmp_path)
    assert settings.temporal.outside
    config = outside_config(settings)
    assert (config.get("target_host"), config.get("namespace")) == ("cluster.example:7233", "certs")
    assert config.get("api_key") == "hunter2"
    assert config.get("tls") is True
    assert "hunter2" not in repr(settings)


def test_an_outside_cluster_by_profile_with_tls(tmp_path: Path, clean_environment: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporal.toml").write_text(
        '[profile.prod]\naddress = "prod.example:7233"\n[profile.prod.tls]\nserver_name = "t.example"\n'
    )
    write(tmp_path / "home", f'[temporal]\nprofile = "prod"\nconfig_file = "{tmp_path / "temporal.toml"}"')
    settings = load(tmp_path / "home")
    config = outside_config(settings)
    assert config.get("target_host") == "prod.example:7233"
    tls = config.get("tls")
    assert tls is not None
    assert not isinstance(tls, bool)
    assert tls.domain == "t.example"
    clean_environment.setenv("TEMPORAL_ADDRESS", "elsewhere.example:7233")
    assert outside_config(load(tmp_path / "home")).get("target_host") == "elsewhere.example:7233"


def test_a_profile_that_is_not_there_is_told(tmp_path: Path, clean_environment: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporal.toml").write_text("")
    clean_environment.setenv("TEMPORAL_CONFIG_FILE", str(tmp_path / "temporal.toml"))
    clean_environment.setenv("TEMPORAL_PROFILE", "absent")
    with pytest.raises(InvalidInput, match=r"absent|no address"):
        outside_config(load(tmp_path / "home"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[dashboard]\npublic_url = "certgate.example.com"', "a scheme and a host without a path"),
        ('[dashboard]\npublic_url = "https://certgate.example.com/x"', "a scheme and a host without a path"),
        ("[dashboard]\nidle_minutes = 0", "idle_minutes"),
        ('[oidc]\nissuer = "https://id.example"\nclient_id = "c"', "without 'public_url'"),
        ('[oidc]\nissuer = "http://id.example"\nclient_id = "c"', "https address"),
        ('[oidc]\nissuer = "https://id.example"\nclient_id = ""', "client_id"),
        ('[oidc]\nissuer = "https://id.example"\nclient_id = "c"\nlink = "name"', "link"),
    ],
)
def test_wrong_words_on_signing_in_are_a_sentence(tmp_path: Path, text: str, words: str) -> None:
    write(tmp_path, text)
    with pytest.raises(InvalidInput, match=re.escape(words)):
        load(tmp_path, {})


def test_a_secret_in_place_of_its_reference_is_refused_and_not_repeated(tmp_path: Path) -> None:
    write(tmp_path, '[oidc]\nissuer = "https://id.example"\nclient_id = "c"\nclient_secret = "hunter2hunter2"')
    with pytest.raises(InvalidInput, match="reference") as refused:
        load(tmp_path, {})
    assert "hunter2" not in refused.value.message


def test_the_public_address_decides_about_secure_cookies(tmp_path: Path) -> None:
    write(tmp_path, '[dashboard]\npublic_url = "https://Certgate.example.com/"\n[oidc]\nissuer = ""\nclient_id = ""')
    settings = load(tmp_path, {})
    assert (settings.dashboard.public_url, settings.dashboard.secure) == ("https://certgate.example.com", True)
    assert settings.oidc is None
    assert not load(tmp_path, {"CERTGATE_DASHBOARD_PUBLIC_URL": "http://127.0.0.1:1"}).dashboard.secure
