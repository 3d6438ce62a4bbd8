"""``certgate gateway import|export``, ``certgate endpoint import|export``."""

from __future__ import annotations

import stat
from pathlib import Path

from operations import tokens
from tests.cli.conftest import Certgate


def test_gateways_come_from_a_file_and_their_tokens_go_into_a_folder(certgate: Certgate, tmp_path: Path) -> None:
    file, folder = tmp_path / "gateways.csv", tmp_path / "tokens"
    file.write_text("name;comments\nHamburg;=1+1\nParis;\n", encoding="utf-8-sig")
    dry = certgate("gateway", "import", str(file), "--dry-run", "--tokens-dir", str(folder), "--json")
    assert (dry.code, dry.value["written"], dry.value["add"]) == (0, False, 2)
    assert not folder.exists()
    done = certgate("gateway", "import", str(file), "--tokens-dir", str(folder), "--json")
    assert (done.code, done.value["written"]) == (0, True), done.err
    first = Path(done.value["rows"][0]["token_file"])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(first.stat().st_mode) == 0o600
    token = tokens.read(first.read_text())
    assert (token.name, token.gateway_id) == ("Hamburg", done.value["rows"][0]["id"])
    assert token.secret not in done.out + done.err
    assert certgate("gateway", "import", str(file), "--tokens-dir", str(folder)).code == 2
    # A second time nothing is new, and no folder is left behind.
    again = certgate("gateway", "import", str(file), "--tokens-dir", str(tmp_path / "more"), "--json")
    assert (again.code, again.value["same"]) == (0, 2)
    assert not (tmp_path / "more").exists()
    exported = certgate("gateway", "export")
    assert "Hamburg,'=1+1,general,,,yes" in exported.out
    file.write_text(exported.out)
    assert certgate("gateway", "import", str(file), "--dry-run", "--json").value["add"] == 0


def test_endpoints_and_what_is_wrong_with_a_file(certgate: Certgate, tmp_path: Path) -> None:
    file = tmp_path / "some.csv"
    file.write_text("name\nHamburg\n")
    printed = certgate("gateway", "import", str(file))
    assert printed.out.startswith("Hamburg\tcgj_")
    file.write_text("gateway,name,type,settings.address\nHamburg,web,nginx,10.0.0.1\nHamburg,b,apach,\n")
    wrong = certgate("endpoint", "import", str(file))
    assert wrong.code == 1
    assert "Line 3: No connector named 'apach'" in " ".join(wrong.out.split())
    assert "nothing is imported" in wrong.err
    file.write_text("gateway,name,type,settings.address\nHamburg,web,nginx,10.0.0.1\n")
    assert certgate("endpoint", "import", str(file)).code == 0
    out = tmp_path / "out.csv"
    assert certgate("endpoint", "export", "--output", str(out)).code == 0
    assert certgate("endpoint", "export", "--output", str(out)).code == 2
    rows = certgate("endpoint", "export", "--json").value
    assert rows[-1]["settings"] == '{"address": "10.0.0.1"}'
    assert certgate("endpoint", "import", str(out), "--dry-run").code == 0
    file.write_text("name,colour\nx,red\n")
    assert certgate("gateway", "import", str(file)).code == 2
    assert certgate("gateway", "import", str(tmp_path / "nothing")).code == 2
