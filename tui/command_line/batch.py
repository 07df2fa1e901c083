"""Runs one verb without a screen: data on stdout, narration on stderr, and an exit status. Never imports Textual."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paceline.engine.errors import FEWER_DEVICES, STATUS_ORDER, Interrupted, WorkFailed
from paceline.engine.inventory.choice import load_inventory
from paceline.engine.reports.document_type import Document, document_type
from paceline.engine.specs import Inventory

from ..control_log import control_log, log_path
from ..preferences import preferences_path, read_preferences
from .ask import TerminalPrompts
from .commands import VERBS, Verb, check_allowed
from .narration import Narrator
from .render import render

if TYPE_CHECKING:
    from paceline.engine.control import Control

RUN_PATIENCE_S = 600.0
"""Seconds to wait for a silent node of a run that is followed, unless --patience says otherwise."""
INTERRUPT_CONFIRM_S = 10.0
"""Time in which a second Ctrl-C cancels the run."""


def run(args: argparse.Namespace, nodes: Path) -> int:
    """Perform one verb without a screen; returns the exit status. Raises PacelineError, which the caller prints."""
    verb = VERBS[args.verb]
    check_allowed(verb, args, args.read_only or read_preferences(preferences_path()).read_only)
    if verb.name == "replay" and args.other is not None:
        from paceline.engine.jobs.runs.compare import compare_runs

        document = compare_runs(nodes.parent / "logs" / "runs", str(args.file), str(args.other), None)
        print_document(args, document)
        return exit_status(document)
    if verb.name == "replay":
        from .render import recorded_result

        print_document(args, recorded_result(args.file, args.at, args.marks))
        return 0
    if verb.read_files is not None:
        document = verb.read_files(nodes.parent / "logs" / "runs", args)
        print_document(args, document)
        return exit_status(document)
    devices = getattr(args, "devices", None) or "all"  # resume: as before
    is_named = args.nodes is not None
    inventory = load_inventory(nodes, args.only, verb.is_on_embedded_lab, devices, is_named)
    with control_log(log_path(nodes)):
        return asyncio.run(_perform(args, verb, inventory))


async def _perform(args: argparse.Namespace, verb: Verb, inventory: Inventory) -> int:
    from paceline.engine.control import ASKING_PATIENCE_S, Control

    waits = (RUN_PATIENCE_S, ASKING_PATIENCE_S) if args.patience is None else (args.patience, args.patience)
    # In a terminal a verb that asks prints like any other command: only trouble is worth a line beside its answer, and a person
    # can answer a login. --batch never asks.
    is_asking = not (verb.is_launch or args.batch or args.json or args.quiet) and sys.stdin.isatty() and sys.stderr.isatty()
    narrator = Narrator(sys.stderr, is_quiet=args.quiet, is_terse=is_asking)
    control = Control(
        inventory,
        record=args.record,
        patience=waits[0],
        ask=TerminalPrompts(narrator.close) if is_asking else None,
        asking_patience=waits[1],
    )
    narrator.listen(control.subscribe)
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
    print_document(args, document)
    return exit_status(document)


async def _with_interrupts(
    control: Control, verb: Verb, work: asyncio.Task[Document], interrupts: asyncio.Queue[int], narrator: Narrator
) -> Document:
    """The document of a verb. Raises Interrupted after Ctrl-C: the first lets the run go on, a second cancels it."""
    interrupt = asyncio.create_task(interrupts.get())
    waiting: list[asyncio.Task[Any]] = [work, interrupt]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    if work.done():
        interrupt.cancel()
        return work.result()
    run_id = control.run_id
    is_embedded = all(node.kind == "embedded" for node in control.inventory.nodes)
    is_cancelling = verb.name in ("bench", "demo", "scale", "search", "suite", "fit") and is_embedded and run_id is not None
    if run_id is not None and not is_cancelling and interrupt.result() == signal.SIGINT:
        narrator.print_line(f"run {run_id} goes on; again within {INTERRUPT_CONFIRM_S:.0f} s stops it")
        again = asyncio.create_task(interrupts.get())
        waiting = [work, again]
        await asyncio.wait(waiting, timeout=INTERRUPT_CONFIRM_S, return_when=asyncio.FIRST_COMPLETED)
        is_cancelling = again.done()
        again.cancel()
        if work.done() and not is_cancelling:  # it ended meanwhile
            return work.result()
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    run_id = control.run_id  # None where the launch was cut off and withdrawn
    then = control.resume_hint or None
    if run_id is None:
        raise Interrupted("interrupted; no run goes on" if then else "interrupted; nothing was started", hint=then)
    if not is_cancelling:
        hint = then or f"paceline attach {run_id} follows it again, paceline cancel {run_id} stops it"
        raise Interrupted(f"interrupted; run {run_id} goes on", hint=hint)
    narrator.print_line(f"stopping run {run_id} ...")
    survivors = (await control.cancel(run_id))["survivors"]
    if survivors:
        processes = ", ".join(f"{process['pid']} on {process['node']}" for process in survivors)
        raise Interrupted(f"interrupted; run {run_id} was cancelled, but these processes still run: {processes}", hint=then)
    raise Interrupted(f"interrupted; run {run_id} was cancelled, no process is left", hint=then)


def exit_status(document: Document) -> int:
    """The exit status of a finished verb, from its document."""
    states = [node["state"] for node in document.get("nodes", []) if isinstance(node, dict)]
    statuses = {0}
    if "refused" in states:
        statuses.add(4)
    if "lost" in states or "connecting" in states:
        statuses.add(3)
    if document.get("state") in ("failed", "cancelled") and document_type(document) != "cancel":
        statuses.add(1)
    if "failed" in states or document.get("state") in ("incomplete", "stayed") or document.get("survivors"):
        statuses.add(1)
    if document.get("lost_ranks"):
        statuses.add(FEWER_DEVICES)
    return next((status for status in STATUS_ORDER if status in statuses), 0)


def print_document(args: argparse.Namespace, document: Document) -> None:
    """Print a document as text, or as JSON where that is asked for. Raises WorkFailed, or BrokenPipeError."""
    if args.json:
        line = json.dumps({"schema": 1, **without_surrogates(document)}, allow_nan=False)
        text = line.replace("\x7f", "\\u007f")  # the only control byte that JSON does not escape
    else:
        text = render(document)
    try:
        print(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is buffered would fail once more at the end
        raise WorkFailed(f"cannot write the output: {error.strerror or error}") from None


def without_surrogates(value: Any) -> Any:
    """A document without lone surrogates, which stand for bytes of a node that are no text: other programs refuse them in JSON."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {without_surrogates(key): without_surrogates(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_surrogates(item) for item in value]
    return value
