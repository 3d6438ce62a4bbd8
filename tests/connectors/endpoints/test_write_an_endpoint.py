"""The example of docs/write-an-endpoint.md, taken out of the page: built, installed, found, and put through what every
endpoint type has to pass."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from connectors import registry
from connectors.endpoints.contract import Endpoint, MakesKeys
from connectors.errors import Permanent
from dashboard import forms
from tests.connectors.endpoints.conformance import EndpointConformance
from tests.support.beacon import NAME, DisposableBeacon
from tests.support.installing import ThrowawayAuthority
from tests.support.products import Installation, Product

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "write-an-endpoint.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The example as a wheel that its own pyproject.toml makes, laid where Python finds it, here and in the processes
    that this one starts."""
    source, built, site = (tmp_path_factory.mktemp(name) for name in ("source", "built", "site"))
    (source / "certgate_beacon.py").write_text(blocks("python")[0])
    (source / "pyproject.toml").write_text(blocks("toml")[0])
    build = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", build, str(built)], cwd=source, check=True, capture_output=True)
    [wheel] = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(site)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")])))
        registry.installed.cache_clear()
        yield source
    sys.modules.pop("certgate_beacon", None)
    importlib.invalidate_caches()
    registry.installed.cache_clear()


def test_the_page_is_whole(installed: Path) -> None:
    """What the page shows is formatted and checked as our own code is, and what it says of the suite is what runs."""
    for command in (
        ["ruff", "check", "--quiet"],
        ["ruff", "format", "--check"],
        ["mypy", "--strict", "--follow-imports=silent"],
    ):
        program = Path(sys.executable).parent / command[0]
        done = subprocess.run(
            [program, *command[1:], str(installed / "certgate_beacon.py")],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    assert tomllib.loads(blocks("toml")[0])["project"]["name"] == "certgate-beacon"
    assert blocks("python")[1] in Path(__file__).read_text()


def test_it_is_found_and_its_settings_are_a_form() -> None:
    assert ("endpoints", "beacon", "1.0") in [(one.kind, one.name, one.version) for one in registry.modules()]
    kind = registry.find("endpoints", "beacon")
    (field,) = forms.fields(kind.settings)
    assert (field.name, field.needed, field.default) == ("configuration", False, "/etc/beacon.json")
    assert "local" in registry.connections(kind)


class TestBeacon(EndpointConformance):
    @classmethod
    def product_in(cls, folder: Path) -> AbstractContextManager[Product]:
        return DisposableBeacon(folder)


async def test_what_it_says_where_it_can_not(tmp_path: Path, authority: ThrowawayAuthority) -> None:
    with DisposableBeacon(tmp_path) as beacon:
        place = Installation(beacon, tmp_path / "home")
        assert isinstance(place.endpoint, Endpoint)
        assert isinstance(place.endpoint, MakesKeys)
        where = (await place.binding()).places[0]
        (tmp_path / "lights.key").write_bytes(authority.issue(NAME).private_key_pem or b"")
        with pytest.raises(Permanent, match="does not belong to the certificate"):
            await place.endpoint.check(where)
        beacon.configuration.write_text('{"port": "many"}')
        with pytest.raises(
            Permanent, match=r"beacon\.json is no configuration of beacon \(ValueError: invalid literal"
        ):
            await place.endpoint.discover()
