"""The files for a gateway's host are right: systemd, Compose and certgate itself read them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
import yaml

from operations import downloads, gateway_changes
from operations.downloads import Kind
from operations.gateway_changes import NewGateway
from tests.operations.conftest import Records
from worker import gateway_home

NAME = "Zürich St. John's-2"


@pytest.fixture
def texts(records: Records) -> dict[Kind, downloads.Download]:
    """All of them, for a gateway with a name that has everything."""
    context = records.acting("mrao")
    gateway_changes.add(context, NewGateway(NAME))
    return {
        kind: downloads.of_gateway(context, NAME, kind, address="temporal.example:7233", namespace="n") for kind in Kind
    }


def test_the_unit_is_one_that_systemd_reads(texts: dict[Kind, downloads.Download], tmp_path: Path) -> None:
    made = texts[Kind.SYSTEMD]
    assert made.file_name == "certgate-gateway-z-rich-st-john-s-2.service"
    assert f"certgate gateway {NAME}" in made.text
    keys = re.findall(r"^([A-Za-z]+)=", made.text, re.MULTILINE)
    hardening = {"NoNewPrivileges", "ProtectSystem", "PrivateTmp", "CapabilityBoundingSet", "SystemCallFilter"}
    assert hardening < set(keys)
    assert len(keys) == len(set(keys)) + keys.count("ReadWritePaths") - 1
    assert "RestartPreventExitStatus=3" in made.text
    analyze = shutil.which("systemd-analyze")
    if analyze is not None:
        unit = tmp_path / made.file_name
        unit.write_text(made.text.replace("/opt/certgate/bin/certgate", "/bin/true"))
        said = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True, check=False).stderr
        assert [line for line in said.splitlines() if unit.name in line] == []


def test_the_compose_file_is_one_that_compose_reads(texts: dict[Kind, downloads.Download]) -> None:
    vendored = resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    content = yaml.safe_load(texts[Kind.CONTAINER].text)
    schema = json.loads(vendored.read_text())
    assert [error.message for error in jsonschema.validators.validator_for(schema)(schema).iter_errors(content)] == []
    service = content["services"]["gateway"]
    assert (service["read_only"], service["user"], service["cap_drop"]) == (True, "10001:10001", ["ALL"])
    assert "ports" not in service


def test_the_sample_is_one_that_certgate_reads(texts: dict[Kind, downloads.Download], tmp_path: Path) -> None:
    text = texts[Kind.GATEWAY_TOML].text
    (tmp_path / "gateway.toml").write_text(text)
    read = gateway_home.read(tmp_path)
    assert (read.name, read.temporal.address, read.temporal.namespace) == (NAME, "temporal.example:7233", "n")
    # What is a comment there is right as well.
    (tmp_path / "gateway.toml").write_text(re.sub(r"^# (?=\w+ = )", "", text, flags=re.MULTILINE))
    assert gateway_home.read(tmp_path).temporal.proxy == "http://proxy.example.com:3128"
