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


def test_what_sudo_has_to_allow_is_printed(certgate: Certgate, tmp_path: Path) -> None:
    assert certgate("gateway", "add", "--name", "Berlin", "--token-file", str(tmp_path / "token")).code == 0
    added = ("endpoint", "add", "--gateway", "Berlin", "--type", "nginx")
    assert certgate(*added, "--name", "local").code == 0
    of_ssh = {
        "address": "web-1.example.org",
        "username": "certgate",
        "host_keys": '["SHA256:' + "A" * 43 + '"]',
        "private_key": "file:/etc/certgate/ssh",
        "sudo_files": '["/etc/nginx/site.key"]',
        "sudo_commands": '["/usr/sbin/nginx -s reload"]',
        "jump_hosts": '[{"address": "jump.example.org", "username": "hop"}]',
    }
    settings = [word for name, value in of_ssh.items() for word in ("--set-connection", f"{name}={value}")]
    assert certgate(*added, "--name", "web", "--connection", "ssh", *settings).code == 0
    printed = certgate("endpoint", "sudoers", "--gateway", "Berlin", "web")
    assert printed.code == 0
    assert "certgate ALL=(root) NOPASSWD: /usr/sbin/nginx -s reload\n" in printed.out
    assert "certgate ALL=(root) NOPASSWD: /usr/bin/cat -- /etc/nginx/site.key\n" in printed.out
    assert certgate("endpoint", "sudoers", "--gateway", "Berlin", "web", "--json").value["sudoers"] == printed.out
    refused = certgate("endpoint", "sudoers", "--gateway", "Berlin", "local")
    assert (refused.code, "not by SSH" in refused.err) == (2, True)
