"""The container files, as far as they can be checked without a container engine.

The Compose specification's own schema, our rules for what runs there, and the shell scripts with a real shell.
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from model import channel

ROOT = Path(__file__).parents[2]
ONE_SHOT = {"temporal-schema", "temporal-namespace", "migrate", "enroll"}
OURS = {"migrate", "manager", "enroll", "gateway", "dashboard"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    content = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert isinstance(content, dict)
    return content


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = compose["services"]
    assert isinstance(found, dict)
    return found


def test_the_file_is_valid_by_the_compose_specification(compose: dict[str, Any]) -> None:
    vendored = resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = json.loads(vendored.read_text())
    validator = jsonschema.validators.validator_for(schema)
    validator.check_schema(schema)
    assert [error.message for error in validator(schema).iter_errors(compose)] == []
    # And the schema does say no.
    assert not validator(schema).is_valid({"services": {"x": {"image": "y", "healthchek": {}}}})


def test_every_lasting_service_has_a_health_check_and_every_other_ends(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        if name in ONE_SHOT:
            assert service["restart"] == "on-failure:3", name
        else:
            assert service["healthcheck"]["test"][0] == "CMD", name
            assert service["restart"] == "unless-stopped", name


def test_nothing_runs_as_root_or_may_become_it(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"]), name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] or name == "temporal-ui", name
        assert not service.get("privileged"), name


def test_versions_are_pinned(services: dict[str, dict[str, Any]]) -> None:
    images = {service["image"] for service in services.values()}
    images |= set(re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    for image in images:
        assert re.search(r":\d+\.\d+", image), image
    # Server and tools bring one schema; they are of one version.
    assert services["temporal"]["image"].split(":")[1] == services["temporal-schema"]["image"].split(":")[1]


def test_only_loopback_is_published(services: dict[str, dict[str, Any]]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_secrets_come_by_file(compose: dict[str, Any], services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        for secret in service.get("secrets", []):
            assert set(compose["secrets"][secret]) == {"file"}, name
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|TOKEN|KEY|DATABASE_URL", variable):
                assert variable.endswith("_FILE"), (name, variable)
                assert value.startswith("/run/secrets/"), (name, variable)
    used = {secret for service in services.values() for secret in service.get("secrets", [])}
    assert used == set(compose["secrets"])


def test_what_is_waited_for_exists_and_can_come_true(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if needed in ONE_SHOT else "service_healthy"
            assert how == {"condition": wanted}, (name, needed)


def test_the_gateway_sees_no_database_and_no_secret(services: dict[str, dict[str, Any]]) -> None:
    gateway = services["gateway"]
    assert not set(gateway["networks"]) & {"store", "temporal-store"}
    assert "secrets" not in gateway
    assert "manager:/home/certgate" not in gateway["volumes"]
    # Who does not judge joins does not hold the manager's key either.
    assert {name for name, one in services.items() if "manager_key" in one.get("secrets", [])} == {"migrate", "manager"}
    stores = {"database": ["store"], "temporal-database": ["temporal-store"]}
    assert {name: services[name]["networks"] for name in stores} == stores


def test_volumes_networks_and_files_exist(compose: dict[str, Any], services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert set(service["networks"]) <= set(compose["networks"]), name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (ROOT / source).exists() if source.startswith("./") else source in compose["volumes"], (name, volume)
    for script in re.findall(r"deploy/scripts/\S+\.sh", (ROOT / "Dockerfile").read_text()):
        assert (ROOT / script).exists()


def test_our_services_share_one_image_and_one_user(services: dict[str, dict[str, Any]]) -> None:
    assert {name for name, service in services.items() if service["image"].startswith("certgate:")} == OURS
    assert {services[name]["user"] for name in OURS} == {"10001:10001"}
    assert "--uid 10001" in (ROOT / "Dockerfile").read_text()


def run(script: str, folder: Path, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs one of the deploy scripts with programs that only write down how they were called."""
    return subprocess.run(
        ["sh", str(folder / script)],
        env={"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "GATEWAY_NAME": "container", "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=check,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The scripts with their fixed places moved into a folder, and a `certgate` that writes down its words."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "enrollment").mkdir()
    program = tmp_path / "bin" / "certgate"
    program.write_text(
        f'#!/bin/sh\necho "$*" >>{tmp_path}/calls\n[ ! -e {tmp_path}/fail ] || exit 1\n'
        'while [ $# -gt 0 ]; do if [ "$1" = --token-file ]; then [ -e "$2" ] || echo token >"$2"; fi; shift; done\n'
    )
    program.chmod(0o755)
    for name in ("enroll.sh", "gateway.sh"):
        text = (ROOT / "deploy" / "scripts" / name).read_text()
        (tmp_path / name).write_text(text.replace("/enrollment", f"{tmp_path}/enrollment"))
    return tmp_path


def test_a_gateway_is_enrolled_and_joins_once(folder: Path) -> None:
    token = folder / "enrollment" / "token"
    for _ in range(2):
        run("enroll.sh", folder)
        assert not token.exists() or stat.S_IMODE(token.stat().st_mode) == 0o600
        run("gateway.sh", folder)
        assert not token.exists()
    assert (folder / "calls").read_text().splitlines() == [
        f"gateway add --name container --token-file {token}",
        f"gateway join --token-file {token} --gateway-home /home/certgate/gateway",
        "gateway run --gateway-home /home/certgate/gateway",
        "gateway run --gateway-home /home/certgate/gateway",
    ]


def test_a_join_that_fails_keeps_the_token_for_the_next_attempt(folder: Path) -> None:
    run("enroll.sh", folder)
    (folder / "fail").touch()
    assert run("gateway.sh", folder, check=False).returncode == 1
    assert (folder / "enrollment" / "token").exists()


def test_secrets_are_made_once_in_a_closed_folder(tmp_path: Path) -> None:
    script = tmp_path / "make-secrets.sh"
    script.write_text((ROOT / "deploy" / "make-secrets.sh").read_text())
    subprocess.run(["sh", str(script)], check=True)
    made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    assert set(made) == {"temporal_database_password", "database_password", "database_url", "manager_key"}
    channel.read_private(made["manager_key"].encode())
    assert len(made["database_password"]) == 48
    assert made["database_password"] in made["database_url"]
    subprocess.run(["sh", str(script)], check=True)
    assert {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()} == made


def test_locks_hold_hashes_and_no_address() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        text = path.read_text()
        assert "://" not in text, path
        assert "--index" not in text, path
        pinned = re.findall(r"^[a-z0-9][^\s]*==", text, re.MULTILINE)
        assert pinned
        assert len(re.findall(r"^[a-z0-9]", text, re.MULTILINE)) == len(pinned), f"{path}: something is not pinned"
        blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
        assert all("--hash=sha256:" in block for block in blocks), path
