"""``certgate gateway sync``, ``sync-status``, ``sync-cancel`` on the manager; ``modules`` on the gateway's own host."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.common import Json, Yes, acting, confirm, emit_fields, emit_json, emit_rows, plain, run, say, table
from cli.gateway_processes import GatewayHome
from model.errors import Conflict, InvalidInput
from model.rules.modules import Direction, Side, SyncState

if TYPE_CHECKING:
    from operations.context import Context
    from operations.modules import SyncDetail, SyncRow

Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Gateways by name or ID.")]
# A gateway that is connected answers in a moment; one that does not is told to be away.
_ANSWER = timedelta(seconds=30)
_GOOD = (SyncState.DONE, SyncState.COMPARED)


def register(gateways: typer.Typer) -> None:
    """Hang the commands into `certgate gateway`."""
    gateways.command("sync")(sync_gateways)
    gateways.command("sync-status")(show_syncs)
    gateways.command("sync-cancel")(cancel_sync)
    gateways.command("modules")(check_modules)


def sync_gateways(
    name: Names = None,
    everything: Annotated[bool, typer.Option("--all", help="All gateways that you may manage.")] = False,
    direction: Annotated[Direction, typer.Option(help="Which way changes go.")] = Direction.BOTH,
    decide: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=SIDE", help="Whose value counts: endpoint:web=manager, keystore:default=gateway."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only compare, change nothing.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for gateways that are away, however long.")] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Bring a gateway's own file (modules.toml) and the manager's records together.

    What one side changed goes to the other. What both changed is left alone until you decide it. Without --yes, one
    gateway's difference is shown first and you are asked.
    """
    from operations import modules

    decisions = _decisions(decide)
    with acting() as context:
        chosen = _chosen(context, name, everything)
        if decisions and len(chosen) != 1:
            raise InvalidInput("Decisions are for one gateway: name it alone.")

        async def work() -> list[SyncDetail]:
            order = modules.Order(apply=not dry_run, direction=direction)
            if dry_run or (yes and not decisions):
                return await _carried_out(context, chosen, order, wait)
            if len(chosen) > 1:
                confirm(f"Sync the modules of {len(chosen)} gateways?", yes)
                return await _carried_out(context, chosen, order, wait)
            return [await _looked_and_done(context, chosen[0], order, decisions, wait=wait, yes=yes)]

        details = run(work())
    if as_json:
        values = [_value(detail) for detail in details]
        emit_json(values[0] if len(values) == 1 and not everything else values)
    elif len(details) == 1:
        _print_difference(details[0])
    else:
        _print_rows([detail.row for detail in details])
    for detail in details:
        say(_sentence(detail.row))
    if any(detail.row.state not in _GOOD and not detail.row.running for detail in details):
        raise typer.Exit(1)


def show_syncs(name: Names = None, as_json: Json = False) -> None:
    """Show where the syncs of gateways stand: of those named, or of all that you may manage."""
    from operations import modules

    with acting() as context:
        rows = modules.progress(context, _chosen(context, name, False) if name else None)
    if as_json:
        emit_json([plain(row) for row in rows])
    else:
        _print_rows(rows)


def cancel_sync(
    name: Annotated[str, typer.Argument(help="The gateway's name in any case, or its ID.")], as_json: Json = False
) -> None:
    """End a sync that is under way, such as one that waits for a gateway that is away. Nothing is lost by it."""
    from operations import gateways, modules

    with acting() as context:
        row = run(modules.cancel(context, gateways.find(context, name)))
    if as_json:
        emit_json(row)
    say(_sentence(row))


def check_modules(gateway_home: GatewayHome, as_json: Json = False) -> None:
    """Check the gateway's own file (modules.toml) and print what is in it; on the gateway's host, before a sync."""
    from activities import modules_file
    from connectors.errors import Permanent

    folder = gateway_home.absolute()
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is not a gateway's home: run `certgate gateway join` first.")
    path = folder / modules_file.FILE_NAME
    try:
        found = modules_file.read(folder)
    except Permanent as error:
        raise Conflict(error.message) from None
    value = {"file": path, "revision": found.revision, "modules": found.document, "problems": found.unusable}
    if as_json:
        emit_json(value)
    elif found.document:
        print(f"Revision {found.revision}")
        table(["Module", "Settings"], [[key, _shown(one)] for key, one in sorted(found.document.items())])
    for problem in found.unusable.values():
        say(problem)
    if found.unusable:
        say(f"{len(found.unusable)} of them can't be used; a sync leaves them alone until they are mended.")
        raise typer.Exit(1)
    say(f"{path} is well." if found.revision is not None else f"There is no {path} yet: the first sync writes it.")


def _chosen(context: Context, names: Sequence[str] | None, everything: bool) -> list[int]:
    from operations import gateways, modules

    if bool(names) == everything:
        raise InvalidInput("Name gateways, or say --all.")
    if not names:
        found = [row.gateway_id for row in modules.progress(context)]
        if not found:
            raise InvalidInput("There are no gateways that you may manage.")
        return found
    return list(dict.fromkeys(gateways.find(context, one) for one in names))


def _decisions(words: Sequence[str] | None) -> dict[str, Side]:
    found = {}
    for word in words or ():
        key, _, side = word.rpartition("=")
        if not key or side not in list(Side):
            raise InvalidInput(f"A decision is given as KEY=manager or KEY=gateway, not {word!r}.")
        found[key] = Side(side)
    return found


async def _carried_out(context: Context, chosen: Sequence[int], order: Any, wait: bool) -> list[SyncDetail]:
    from operations import modules

    problems = {one.gateway_id: one.problem for one in await modules.start_many(context, chosen, order) if one.problem}
    for problem in problems.values():
        say(problem)
    if len(problems) == len(chosen):
        raise Conflict("No sync was begun.")
    await _followed(context, [number for number in chosen if number not in problems], wait)
    return [modules.show(context, number) for number in chosen]


async def _followed(context: Context, numbers: Sequence[int], wait: bool) -> None:
    """Follow until all have ended, or, without `wait`, until those that are left are known to be away."""
    from operations import modules

    loop = asyncio.get_running_loop()
    end = loop.time() + _ANSWER.total_seconds()
    told = None
    while True:
        rows = modules.progress(context, numbers)
        ended = sum(not row.running for row in rows)
        if len(rows) > 1 and ended != told:
            say(f"{ended} of {len(rows)} gateways.")
            told = ended
        under_way = [row for row in rows if row.running]
        away = all(row.state == SyncState.WAITING for row in under_way)
        if not under_way or (not wait and (away or loop.time() > end)):
            return
        await asyncio.sleep(0.1 if len(numbers) < 10 else 0.5)


async def _looked_and_done(
    context: Context, number: int, order: Any, decisions: dict[str, Side], *, wait: bool, yes: bool
) -> SyncDetail:
    from operations import modules

    (looked,) = await _carried_out(context, [number], modules.Order(), wait)
    if looked.row.running:
        if order.apply and looked.row.state == SyncState.WAITING:
            await modules.cancel(context, number)
        raise Conflict(f"Gateway {looked.row.gateway} does not answer: --wait waits, --yes syncs when it is back.")
    if looked.row.state != SyncState.COMPARED or not (looked.lines or looked.row.gateway_revision is None):
        return looked
    _print_difference(looked, to_stderr=True)
    undecided = [line.key for line in looked.lines if line.undecided and line.key not in decisions]
    left = f" {len(undecided)} conflicts are left alone." if undecided else ""
    confirm(f"Bring gateway {looked.row.gateway} and the manager's records together?{left}", yes)
    assert looked.manager_digest is not None
    assert looked.gateway_digest is not None
    seen = (looked.manager_digest, looked.gateway_digest)
    full = modules.Order(apply=True, direction=order.direction, decisions=decisions, seen=seen)
    (done,) = await _carried_out(context, [number], full, wait)
    return done


def _value(detail: SyncDetail) -> dict[str, Any]:
    return {
        **plain(detail.row),
        "note": detail.note,
        "compared_at": plain(detail.compared_at),
        "same": detail.same,
        "difference": plain(detail.lines),
        "connectors": plain(detail.connectors),
    }


def _print_difference(detail: SyncDetail, *, to_stderr: bool = False) -> None:
    if to_stderr:
        for line in detail.lines:
            say(f"{line.key}: {line.standing}; manager {_shown(line.manager)}; gateway {_shown(line.gateway)}")
        return
    row = detail.row
    emit_fields(
        None,
        False,
        {
            "Gateway": row.gateway,
            "State": row.state,
            "Revision": f"{row.revision} at the manager, {row.gateway_revision or 'none'} at the gateway",
            "Changed": f"{row.changed_here} at the manager since then, {row.changed_there} at the gateway",
            "Note": detail.note,
        },
    )
    if detail.lines:
        lines = [
            [
                line.key,
                str(line.standing),
                _shown(line.manager),
                _shown(line.gateway),
                line.note or "",
            ]
            for line in detail.lines
        ]
        table(["Module", "Standing", "Manager", "Gateway", "Note"], lines)
    if detail.connectors:
        others = [[f"{o.kind}/{o.name}", o.manager or "–", o.gateway or "–", o.meaning] for o in detail.connectors]
        table(["Connector", "Manager", "Gateway", "What it means"], others)


def _print_rows(rows: Sequence[SyncRow]) -> None:
    columns = {
        "ID": lambda row: row.gateway_id,
        "Gateway": lambda row: row.gateway,
        "State": lambda row: row.state,
        "Revision": lambda row: row.revision,
        "Changed here": lambda row: row.changed_here,
        "Differences": lambda row: row.differences,
        "Conflicts": lambda row: row.conflicts,
        "Message": lambda row: row.message or "",
    }
    emit_rows(rows, False, columns, "There are no gateways that you may manage.")


def _sentence(row: SyncRow) -> str:
    return f"Gateway {row.gateway}: {row.message or row.state}"


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
