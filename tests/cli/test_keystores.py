"""Keystores and endpoints on the command line, without an engine."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Certgate


def test_keystores_and_endpoints_by_name_and_by_id(certgate: Certgate, tmp_path: Path) -> None:
    assert certgate("gateway", "add", "--name", "Berlin", "--token-file", str(tmp_path / "token")).code == 0
    (gateway,) = certgate("gateway", "list", "--json").value
    number = str(gateway["id"])
    settings = ("--set", "file=java.p12", "--set", "passphrase=file:/etc/certgate/java")
    added = certgate("keystore", "add", "--gateway", number, "--name", "Java", "--type", "pkcs12", *settings, "--json")
    assert (added.code, added.value["name"], added.value["title"]) == (0, "Java", "PKCS#12 file")
    listed = certgate("keystore", "list", "--gateway", "berlin", "--json").value
    assert [row["name"] for row in listed] == ["Java", "default"]
    shown = certgate("keystore", "show", "--gateway", "Berlin", str(added.value["id"]), "--json").value
    assert (shown["name"], shown["contents"], shown["omitted"]) == ("Java", [], 0)
    assert "never looked" in certgate("keystore", "show", "--gateway", "Berlin").out
    edited = certgate("keystore", "edit", "--gateway", "Berlin", "Java", "--name", "Tomcat", "--json")
    assert edited.value["name"] == "Tomcat"
    away = certgate("keystore", "check", "--gateway", "Berlin", "Tomcat")
    assert (away.code, "Temporal" in away.err) == (1, True)
    refused = certgate("keystore", "remove", "--gateway", "Berlin", "default", "--yes")
    assert (refused.code, "can't be removed" in refused.err) == (1, True)
    assert certgate("keystore", "remove", "--gateway", "Berlin", "Tomcat").code == 2
    assert certgate("keystore", "remove", "--gateway", "Berlin", "Tomcat", "--yes").code == 0

    new = ("endpoint", "add", "--gateway", number, "--name", "web", "--type", "nginx", "--json")
    endpoint = certgate(*new).value
    assert certgate("endpoint", "show", "--gateway", "Berlin", str(endpoint["id"]), "--json").value["name"] == "web"
    away = certgate("endpoint", "test", "--gateway", "Berlin", "web")
    assert (away.code, "Temporal" in away.err) == (1, True)
    assert (
        certgate("endpoint", "edit", "--gateway", "Berlin", "web", "--name", "edge", "--json").value["name"] == "edge"
    )
    assert certgate("endpoint", "remove", "--gateway", number, str(endpoint["id"]), "--yes").code == 0
