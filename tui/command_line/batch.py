"""Headless: one verb, data on stdout, narration on stderr, and an exit status. Never imports Textual."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

from paceline.engine.errors import STATUS_ORDER, Interrupted
from paceline.engine.inventory.choice import inventory_for
from paceline.engine.reports.document_type import document_type

from .. import preferences
from ..sessions.narration import Narrator
from .commands import VERBS, Document, Verb, check_allowed
from .render import render

SECOND_THOUGHT = 10.0
"""Seconds in which a second Ctrl-C stops the run."""


def run(args: argparse.Namespace, nodes: Path) -> int:
    """Perform one verb without a screen; returns the exit status. Raises PacelineError for the caller to print."""
    verb = VERBS[args.verb]
    check_allowed(verb, args, args.read_only or preferences.read(preferences.preferences_path()).read_only)
    if verb.name == "replay":
        from .render import replayed

        _print(args, replayed(args.file))
        return 0
    devices = getattr(args, "devices", "all")
    inventory = inventory_for(nodes, args.only, is_embedded_only=verb.is_on_embedded_lab, devices=devices)
    return asyncio.run(_perform(args, verb, inventory))


async def _perform(args: argparse.Namespace, verb: Verb, inventory: Any) -> int:
    from paceline.engine.control import Control

    control = Control(inventory, record=args.record, patience=args.patience)
    narrator = Narrator(sys.stderr, control.subscribe)
    interrupts: asyncio.Queue[int] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(signum, interrupts.put_nowait, signum)
    try:
        await control.open()
        work = asyncio.create_task(verb.perform(control, args))
        document = await _with_interrupts(control, verb, work, interrupts, narrator)
    finally:
        narrator.close()
        await control.close()
    _print(args, document)
    return exit_status(document)


async def _with_interrupts(
    control: Any, verb: Verb, work: asyncio.Task[Document], interrupts: asyncio.Queue[int], narrator: Narrator
) -> Document:
    """The document, unless a person interrupts; then what DESIGN.md says of Ctrl-C, and Interrupted is raised."""
    asked = asyncio.create_task(interrupts.get())
    await asyncio.wait({work, asked}, return_when=asyncio.FIRST_COMPLETED)
    if work.done():
        asked.cancel()
        return work.result()
    run_id = control.run_id
    is_embedded = all(node.kind == "embedded" for node in control.inventory.nodes)
    is_to_stop = verb.name in ("bench", "demo") and is_embedded and run_id is not None
    if run_id is not None and not is_to_stop and asked.result() == signal.SIGINT:
        narrator.say(f"run {run_id} goes on; again within {SECOND_THOUGHT:.0f} s stops it")
        again = asyncio.create_task(interrupts.get())
        await asyncio.wait({work, again}, timeout=SECOND_THOUGHT, return_when=asyncio.FIRST_COMPLETED)
        is_to_stop = again.done()
        again.cancel()
        if work.done() and not is_to_stop:  # it ended meanwhile: there is nothing left that could go on
            return work.result()
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    run_id = control.run_id  # none, if its launch was cut off and withdrawn
    if run_id is None:
        raise Interrupted("interrupted; nothing was started")
    if not is_to_stop:
        hint = f"paceline attach {run_id} follows it again, paceline cancel {run_id} stops it"
        raise Interrupted(f"interrupted; run {run_id} goes on", hint=hint)
    narrator.say(f"stopping run {run_id} ...")
    left = (await control.cancel(run_id))["survivors"]
    if left:
        stayed = ", ".join(f"{survivor['pid']} on {survivor['node']}" for survivor in left)
        raise Interrupted(f"interrupted; run {run_id} was cancelled, but these processes stayed: {stayed}")
    raise Interrupted(f"interrupted; run {run_id} was cancelled, no process is left")


def exit_status(document: Document) -> int:
    """The status of a finished verb, from its document."""
    states = [node["state"] for node in document.get("nodes", []) if isinstance(node, dict)]
    statuses = {0}
    if "refused" in states:
        statuses.add(4)
    if "lost" in states:
        statuses.add(3)
    if document.get("state") in ("failed", "cancelled") and document_type(document) != "cancel":
        statuses.add(1)
    if "failed" in states or document.get("state") in ("incomplete", "stayed") or document.get("survivors"):
        statuses.add(1)
    return next((status for status in STATUS_ORDER if status in statuses), 0)


def _print(args: argparse.Namespace, document: Document) -> None:
    if args.json:
        line = json.dumps({"schema": 1, **document}, allow_nan=False)
        print(line.replace("\x7f", "\\u007f"))  # the one control byte that JSON lets pass
    else:
        print(render(document))
    sys.stdout.flush()
