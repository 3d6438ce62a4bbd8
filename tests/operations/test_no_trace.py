"""An administrator of one organization sees no trace of another's: whatever any operation answers is searched."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import re
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import suppress
from types import ModuleType
from typing import Any

import pytest

import operations
from model.errors import CertgateError
from operations import imports
from tests.operations.conftest import Records
from tests.operations.test_permissions import TABLE

# Names of things and people, as the records are filled. `nginx` is left out: the type of an endpoint is called so too.
OF_ALPHA = r"Alpha|alpha|\b[Ww]eb\b|a\.example|requester|\brao\b|\bdrao\b|\bbare\b"
OF_BETA = r"Beta|beta|stranger"
# These repeat what was typed, line by line; what they say of it is compared below.
REPEAT = ("imports.import_gateways", "imports.import_endpoints")
FOREIGN = {"stranger": OF_ALPHA, "rao": OF_BETA, "bare": OF_BETA, "drao": OF_BETA}


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What operations answer from now on, as it is: the table of permissions looks at parts of it only."""
    heard: list[Any] = []
    for loaded, name, function in _asked():
        monkeypatch.setattr(loaded, name, _overheard(function, heard))
    return heard


@functools.cache
def _asked() -> list[tuple[ModuleType, str, Any]]:
    """All operations that take a context: where they are, their names, and they themselves."""
    found = []
    for module in pkgutil.iter_modules(operations.__path__):
        loaded = importlib.import_module(f"operations.{module.name}")
        for name, function in inspect.getmembers(loaded, inspect.isfunction):
            first = next(iter(inspect.signature(function).parameters), "")
            if function.__module__ == loaded.__name__ and first == "context":
                found.append((loaded, name, function))
    return found


@pytest.mark.parametrize("role", FOREIGN)
@pytest.mark.parametrize("name", [name for name in TABLE if name.split()[0] not in REPEAT])
async def test_no_answer_tells_of_another_organization(
    records: Records, answers: list[Any], name: str, role: str
) -> None:
    with suppress(CertgateError):
        answer = TABLE[name].call(records.acting(role), records)
        if isinstance(answer, Awaitable):
            await answer
    for answer in answers:
        found = re.search(FOREIGN[role], repr(answer))
        assert found is None, f"{name} tells {role} of {found[0]}"


@pytest.mark.parametrize("dry_run", [True, False])
def test_an_import_says_of_what_is_hidden_what_it_says_of_what_is_not_there(records: Records, dry_run: bool) -> None:
    context = records.acting("stranger")
    for hidden, nowhere in (("Alpha", "Nowhere"), ("Alpha/Web", "Nowhere/Web")):
        lines = "name,organizations\nnew,{}\n"
        told = [
            repr(imports.import_gateways(context, lines.format(name).encode(), dry_run=dry_run))
            for name in (hidden, nowhere)
        ]
        assert told[0].replace(hidden.split("/")[0], "Nowhere") == told[1]
    lines = "gateway,name,type\n{},new,nginx\n"
    told = [
        repr(imports.import_endpoints(context, lines.format(name).encode(), dry_run=dry_run))
        for name in ("alpha", "nowhere")
    ]
    assert told[0].replace("alpha", "nowhere") == told[1]


async def test_the_search_finds_what_is_there(records: Records, answers: list[Any]) -> None:
    """The same search over what an administrator of everything is answered: a trace would be seen."""
    TABLE["requests.listing"].call(records.acting("mrao"), records)
    TABLE["audit_trail.listing"].call(records.acting("mrao"), records)
    told = repr(answers)
    assert re.search(OF_ALPHA, told)
    TABLE["organizations.listing"].call(records.acting("mrao"), records)
    assert re.search(OF_BETA, repr(answers))


def _overheard(function: Any, heard: list[Any]) -> Any:
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def later(*args: Any, **named: Any) -> Any:
            answer = await function(*args, **named)
            heard.append(answer)
            return answer

        return later

    @functools.wraps(function)
    def at_once(*args: Any, **named: Any) -> Any:
        answer = function(*args, **named)
        if isinstance(answer, Iterator):
            answer = _pieces(answer, heard)
        elif isinstance(answer, AsyncIterator):
            answer = _later_pieces(answer, heard)
        else:
            heard.append(answer)
        return answer

    return at_once


def _pieces(answer: Iterator[Any], heard: list[Any]) -> Iterator[Any]:
    for piece in answer:
        heard.append(piece)
        yield piece


async def _later_pieces(answer: AsyncIterator[Any], heard: list[Any]) -> AsyncIterator[Any]:
    async for piece in answer:
        heard.append(piece)
        yield piece
