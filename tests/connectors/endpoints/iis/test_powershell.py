"""certgate's PowerShell, read by a grammar of the language: it parses, and values get into it by parameters only."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest
import tree_sitter

from connectors.endpoints.iis import scripts
from connectors.hosts.contract import Script
from tests.simulators.winrm.signatures import parameters_of, parse, walk, words

FOLDER = Path(str(files("connectors.endpoints.iis")))
JEA_FILES = sorted((FOLDER / "jea").rglob("*.ps*1")) + sorted((FOLDER / "jea").rglob("*.ps*c"))
# What runs a text as a program, or loads one from elsewhere.
RUNS_TEXT = re.compile(
    r"invoke-(expression|command|webrequest|restmethod)|\biex\b|\bicm\b|add-type|start-process|"
    r"scriptblock\]?::create|invokescript|downloadstring|newscriptblock|-encodedcommand|new-object|set-alias",
    re.IGNORECASE,
)
JOINS_TEXTS = re.compile(r"-join\b|-i?c?replace\b|\.Replace\(|::Format\(|::Concat\(|\.Insert\(", re.IGNORECASE)
each_script = pytest.mark.parametrize("script", scripts.ALL, ids=lambda script: script.name)


def kinds(node: tree_sitter.Node) -> set[str]:
    return {one.type for one in walk(node)}


def test_every_file_is_a_script_that_is_known_and_a_function_that_is_visible() -> None:
    names = [script.name for script in scripts.ALL]
    assert sorted(names) == sorted(path.stem for path in (FOLDER / "scripts").glob("*.ps1"))
    role = (FOLDER / "jea/RoleCapabilities/Certgate.psrc").read_text()
    assert re.findall(r"'(\w+-Certgate\w+)'", role) == names


@pytest.mark.parametrize("path", JEA_FILES, ids=lambda path: path.name)
def test_the_files_for_jea_parse(path: Path) -> None:
    assert not parse(path.read_text()).has_error
    assert path.read_text().isascii()


@each_script
def test_it_parses_and_is_short(script: Script) -> None:
    tree = parse(script.text)
    assert not tree.has_error
    assert not [node for node in walk(tree) if node.is_missing]
    assert script.text.isascii()  # Windows PowerShell reads files without a mark in its own code page
    assert len(script.text.splitlines()) <= 70


def complaints(text: str) -> list[str]:
    """What in a script could run a text, or make one of values."""
    tree = parse(text)
    found = ["it does not parse"] if tree.has_error else []
    code = re.sub(r"(?m)^\s*#.*$", "", text)
    found += [f"it runs a text: {match[0]}" for match in RUNS_TEXT.finditer(code)]
    found += [f"it joins texts: {match[0]}" for match in JOINS_TEXTS.finditer(code)]
    for node in walk(tree):
        if node.type in ("expandable_string_literal", "expandable_here_string_literal") and "$" in words(node):
            found.append(f"a value is pasted into a text: {words(node)}")
        elif node.type in ("format_expression", "additive_expression") and node.named_child_count > 1:
            found.append(f"texts may be joined: {words(node)}")
        elif node.type == "command":
            name = node.child_by_field_name("command_name")
            # A name that is a variable or an expression would run whatever is in it.
            if name is None or not re.fullmatch(r"[A-Za-z]+-[A-Za-z]+|netsh\.exe", words(name)):
                found.append(f"it runs what nobody can read here: {words(node)}")
            elif words(name).endswith(".exe") and "variable" in kinds(node):
                found.append(f"a native program gets a value: {words(node)}")
    return found


@each_script
def test_values_are_nothing_but_values(script: Script) -> None:
    assert complaints(script.text) == []


@pytest.mark.parametrize(
    "line",
    [
        'Get-Item "Cert:\\$Store"',
        "Get-Item \"site[@name='$($Site)']\"",
        "Invoke-Expression $Site",
        "iex $Site",
        "& $Site",
        ". $Site",
        "& (Get-Command $Site)",
        "netsh.exe http add sslcert $Thumbprint",
        "[scriptblock]::Create($Site)",
        "Get-Item ('site {0}' -f $Site)",
        "Get-Item ('site' + $Site)",
        "Get-Item (('a', $Site) -join '')",
        "Start-Process $Site",
        "Get-Item (",
    ],
)
def test_what_a_reviewer_would_refuse_is_seen(line: str) -> None:
    assert complaints(f"param([string] $Site, [string] $Store, [string] $Thumbprint)\n{line}\n") != []


@each_script
def test_it_takes_its_values_by_typed_parameters_and_stops_at_the_first_error(script: Script) -> None:
    parameters = parameters_of(script.text)
    assert all(parameter.kind != "object" for parameter in parameters.values())
    assert "$ErrorActionPreference = 'Stop'" in script.text
    assert script.text.startswith("# ")
    assert "[CmdletBinding()]" in script.text  # which refuses parameters that are not declared
    used = {words(node).lower() for node in walk(parse(script.text)) if node.type == "variable"}
    for name in parameters:
        assert f"${name.lower()}" in used


def test_the_password_is_a_secure_string_and_the_key_can_not_be_exported() -> None:
    text = scripts.IMPORT_CERTIFICATE.text
    assert parameters_of(text)["Password"].kind == "securestring"
    assert "'MachineKeySet, PersistKeySet'" in text
    assert "Exportable" not in text
    assert "ExportPolicy = 'None'" in scripts.NEW_REQUEST.text
    for script in scripts.ALL:
        assert not re.search(r"write-(host|verbose|debug|information|output)|out-file|set-content", script.text, re.I)
