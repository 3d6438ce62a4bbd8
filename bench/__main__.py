"""`python -m bench`: requests per second and approved-to-served time, against a bare workflow of the same shape; the
audit trail with a million entries, against one with a thousand; the server's time for a page of the dashboard with
1,000 gateways and 100,000 requests, against 10 and 100; a replacement campaign, against single replacements;
certificates exchanged under load on nginx, HAProxy and Apache; 200 bindings of one gateway installed on at once.

What is measured and how to read it: docs/performance.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from rich.console import Console
from temporalio.client import WorkflowHandle

from bench import audit, bare, bindings, campaign, nginx_alone, pages, swaps
from bench.driving import BareWorkflows, Requests, Subject, Times, drive
from bench.figures import Report, Rounds, Size
from bench.stage import Stage, stage
from model import naming
from model.errors import CertgateError

_AT_A_TIME = (1, 20)
_PARTS = ("requests", "audit", "pages", "campaign", "swaps", "bindings")
_RELOADS_A_ROUND = 5


class _Measured(Protocol):
    def as_json(self) -> Mapping[str, Any]: ...
    def print(self, console: Console) -> None: ...


async def measure(rounds: int, requests: int, console: Console) -> Report:
    """Measure. Each round drives certgate and both bare workflows one after the other, in changing order."""

    def say(text: str) -> None:
        console.print(text, style="dim", highlight=False)

    many, load_before = max(_AT_A_TIME), os.getloadavg()[0]
    say(f"Starting Temporal, a manager, a gateway, {many} nginx servers and the bare workflow's workers …")
    async with stage(many, say) as place:
        reloads = [await nginx_alone.reload_seconds(place.servers[0]) for _ in range(_RELOADS_A_ROUND)]
        own = Requests(place, server=lambda client: client)
        plain = BareWorkflows(place, 0.0)
        say("Warming up …")
        for subject in (own, plain):
            await drive(subject, many, 2 * many)
        kept = [Rounds(clients) for clients in _AT_A_TIME]
        for number in range(rounds):
            reloads += [await nginx_alone.reload_seconds(place.servers[0]) for _ in range(_RELOADS_A_ROUND)]
            # What nginx itself makes everybody wait, as measured in this very run. The quickest: what a busy machine
            # adds, it adds to the bare workflow's own wait as well.
            waiting = BareWorkflows(place, min(reloads))
            for at in kept:
                count = requests if at.clients > 1 else max(1, requests // 4)
                subjects: list[tuple[Subject, list[Times]]] = [
                    (own, at.certgate),
                    (waiting, at.waiting),
                    (plain, at.plain),
                ]
                for turn in range(len(subjects)):
                    driven, times = subjects[(turn + number) % len(subjects)]
                    times.append(await drive(driven, at.clients, count))
                say(
                    f"Round {number + 1} of {rounds}, {at.clients} at a time, requests/s: certgate "
                    f"{at.certgate[-1].per_second:.2f}, bare with nginx's wait {at.waiting[-1].per_second:.2f}, bare "
                    f"{at.plain[-1].per_second:.2f}."
                )
        say(f"{many} at a time on one nginx …")
        one_nginx = await drive(Requests(place, server=lambda _: 0), many, max(many, requests // 2))
        return Report(
            rounds=kept,
            one_nginx=one_nginx,
            reloads=reloads,
            certgate=await _size(place, own, naming.request_workflow),
            bare=await _size(place, plain, bare.workflow_id),
            cores=os.cpu_count() or 1,
            load_before=load_before,
        )


async def _size(place: Stage, subject: Requests | BareWorkflows, name: Callable[[int], str]) -> Size:
    """Of the last history."""
    handle: WorkflowHandle[object, object] = place.client.get_workflow_handle(name(subject.last))
    events = (await handle.fetch_history()).events
    return Size(len(events), sum(event.ByteSize() for event in events))


def main() -> None:
    """Measure and tell: tables, or with `--json` one JSON object on stdout. Progress goes to stderr."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--rounds", type=_positive, default=3, help="interleaved rounds (default: %(default)s)")
    parser.add_argument(
        "--requests",
        type=_positive,
        default=40,
        help="requests a round at 20 at a time, a quarter of it at one at a time (default: %(default)s)",
    )
    parser.add_argument(
        "--audit-entries",
        type=_positive,
        default=audit.MANY,
        help="entries of the audit trail, more than 1000 (default: %(default)s)",
    )
    parser.add_argument(
        "--runs", type=_positive, default=15, help="runs of each page of the dashboard (default: %(default)s)"
    )
    parser.add_argument(
        "--certificates", type=_positive, default=400, help="certificates of the campaign (default: %(default)s)"
    )
    parser.add_argument(
        "--swaps",
        type=_positive,
        default=swaps.SWAPS,
        help="certificates exchanged on each server (default: %(default)s)",
    )
    parser.add_argument(
        "--bindings", type=_positive, default=bindings.BINDINGS, help="bindings of one gateway (default: %(default)s)"
    )
    parser.add_argument("--only", choices=_PARTS, action="append", help="only this part; may be given again")
    wanted = parser.parse_args()
    progress = Console(stderr=True, soft_wrap=True)

    def say(words: str) -> None:
        progress.print(words, style="dim", highlight=False)

    parts = wanted.only or _PARTS
    found: list[_Measured] = []
    try:
        if "requests" in parts:
            found.append(asyncio.run(measure(wanted.rounds, wanted.requests, progress)))
        if "audit" in parts:
            found.append(audit.measure(max(wanted.audit_entries, audit.FEW + 1), say))
        if "pages" in parts:
            found.append(asyncio.run(pages.measure(wanted.runs, say)))
        if "campaign" in parts:
            found.append(asyncio.run(campaign.measure(wanted.certificates, say)))
        if "swaps" in parts:
            found.append(asyncio.run(swaps.measure(wanted.swaps, say)))
        if "bindings" in parts:
            found.append(asyncio.run(bindings.measure(wanted.bindings, say)))
    except CertgateError as error:
        sys.exit(error.message)
    if wanted.json:
        print(json.dumps({key: value for part in found for key, value in part.as_json().items()}, indent=2))
    else:
        console = Console(width=max(150, Console().width), soft_wrap=True)
        for part in found:
            part.print(console)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


if __name__ == "__main__":
    main()
