"""Seeded kills of control centres, runners and stubborn workers, and counts of what must never happen after them."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from paceline.engine.agent.runs.run_dir import run_facts, runner_is_alive
from paceline.engine.agent.system.process_tree import ProcessTree
from paceline.engine.jobs.lifecycle import combine_verdicts, node_verdict
from paceline.engine.jobs.runs.listing import list_runs
from paceline.engine.protocol.json_files import read_json
from paceline.engine.ssh.fleet import Fleet

from tests.support.places import CHECKOUT
from tests.support.runs.centre import NODES, inventory
from tests.support.runs.runners import RUN, STAYS, Lab
from tests.support.waiting import until

TORCHRUN = "#!/bin/sh\necho started >> starts\nsleep 2\ngrep -q $(basename $PWD) ../../../../../long && sleep 20\necho done\n"
"""A run that is to be cancelled lasts long enough for that."""
SIGNS = (".", "spec.json", "start.json", "out.log", "starts")
"""What a run shows of itself, one after the other, while it is launched."""
STUBBORN = (
    "trap '' TERM HUP; while :; do sleep 600; done",
    "setsid sh -c 'trap \"\" TERM; sleep 600; sleep 600' & sleep 600",
    "(setsid sh -c 'trap \"\" TERM; (sleep 600 &) ; sleep 600; sleep 600' &) ; sleep 600",
    "env -i setsid sh -c 'trap \"\" TERM; sleep 600; sleep 600' & trap '' TERM; sleep 600; sleep 600",
    "(kill -STOP $(exec sh -c 'echo $PPID'); sleep 600) & sleep 600",
)
"""Workers that ignore TERM, leave their session, fork twice, forget their environment, or stop."""


async def kill_centres(directory: Path, count: int, seed: int, at_once: int = 4, *, is_waited_for: bool = True) -> Counter[str]:
    """Kill a control centre at a random moment of launch, follow or cancel, ``count`` times; returns the states of the runs.

    A runner that never learns its peers gives up after a minute. Unless ``is_waited_for``, it is ended at once instead.
    """
    choose = random.Random(seed)
    directory.mkdir(parents=True)
    torchrun = directory / "torchrun"
    torchrun.write_text(TORCHRUN)
    torchrun.chmod(0o755)
    gate = asyncio.Semaphore(at_once)
    runs = [f"20260101-0000-{seed:02d}{number:04d}" for number in range(count)]
    cancelled = {run for run in runs if choose.random() < 0.25}
    (directory / "long").write_text(" ".join(cancelled))

    async def once(run: str, sign: str, moment: float, again: float) -> None:
        async with gate:
            await _killed_after(directory, run, "train", sign, moment)
            if run in cancelled:
                await _killed_after(directory, run, "cancel", "lease.json", again, '"epoch":2')

    moments = [(choose.choice(SIGNS), choose.uniform(0.0, 0.5), choose.uniform(0.0, 1.0)) for _ in runs]
    await asyncio.gather(*(once(run, *moment) for run, moment in zip(runs, moments, strict=True)))
    counts: Counter[str] = Counter(kills=count + len(cancelled))
    homes = [directory / "logs" / "nodes" / name / "runs" for name in NODES]
    known = [run for run in runs if any((home / run / "spec.json").exists() for home in homes)]

    def all_have_ended() -> bool:
        alive = [home / run for home in homes for run in known if runner_is_alive(home / run)]
        if not is_waited_for:
            for run_dir in alive:
                if not any((home / run_dir.name / "out.log").exists() for home in homes):  # its peers will never be introduced
                    cancelled.add(run_dir.name)
                    os.kill(int((read_json(run_dir / "start.json") or {})["pid"]), signal.SIGTERM)
        return not alive

    await until(all_have_ended, lambda: asyncio.sleep(0.2))
    for run in known:
        starts = [len((home / run / "starts").read_text().split()) if (home / run / "starts").exists() else 0 for home in homes]
        counts["started"] += any(starts)
        counts["double starts"] += max(starts) > 1
        parts = {
            name: node_verdict(run_facts(home / run)) for name, home in zip(NODES, homes, strict=True) if (home / run).exists()
        }
        verdict = combine_verdicts(parts)
        counts[verdict.state] += 1
        # A launch that was cut off before any runner knew its peers has started nothing, and says so.
        is_told = verdict.reason.startswith("never started") and not any(starts)
        counts["false failures"] += verdict.state == "failed" and not is_told
        counts["false ends"] += verdict.state == "cancelled" and run not in cancelled
        counts["survivors"] += sum(len(ProcessTree(home / run).scan()) for home in homes)
    counts["forgotten"] += len(set(known) - await _listed(directory))
    return counts


async def _killed_after(directory: Path, run: str, action: str, sign: str, seconds: float, text: str = "") -> None:
    """Start a control centre and kill it ``seconds`` after a file of the run, and a text in it, appear on its first node."""
    command = (sys.executable, "-m", "tests.support.runs.centre", str(directory), run, action)
    quiet = asyncio.subprocess.DEVNULL
    centre = await asyncio.create_subprocess_exec(*command, cwd=CHECKOUT, stdin=quiet, stdout=quiet, stderr=quiet)
    marker = directory / "logs" / "nodes" / NODES[0] / "runs" / run / sign
    await until(lambda: centre.returncode is not None or (marker.exists() and (not text or text in marker.read_text())))
    await asyncio.sleep(seconds)
    if centre.returncode is None:
        centre.kill()
    await centre.wait()


async def _listed(directory: Path) -> set[str]:
    """The runs that a new control centre lists."""
    fleet = Fleet(inventory(directory), lambda event: None)
    await fleet.start()
    try:
        return {row["run_id"] for row in await list_runs(fleet, directory / "logs" / "runs", NODES)}
    finally:
        await fleet.close()


async def kill_runners(directory: Path, count: int, seed: int, at_once: int = 5) -> Counter[str]:
    """Kill one of two runners at a random moment, ``count`` times: the other node ends its part and names the failed node."""
    choose = random.Random(seed)
    gate = asyncio.Semaphore(at_once)
    counts: Counter[str] = Counter(kills=count)

    async def once(number: int, victim: int, moment: float) -> None:
        async with gate:
            two = Lab(directory / str(number), [STAYS, STAYS])
            await two.start()
            await asyncio.sleep(moment)
            os.kill(two.pid(victim), signal.SIGKILL)
            began = time.monotonic()
            ended = await two.until(1 - victim, "exit.json")
            counts["late"] += time.monotonic() - began > 10.0
            counts["named"] += ended["failed_node"] == f"n{victim}" and "its runner was killed" in ended["reason"]
            await until(lambda: not runner_is_alive(two.run(victim)))
            counts["double starts"] += (await two.launch(victim))["pid"] != two.pid(victim)
            await two.end()
            counts["survivors"] += sum(len(ProcessTree(two.run(node)).scan()) for node in (0, 1))
            counts["false states"] += any(node_verdict(run_facts(two.run(node))).state != "failed" for node in (0, 1))

    await asyncio.gather(*(once(number, choose.randrange(2), choose.uniform(0.0, 0.5)) for number in range(count)))
    return counts


async def cancel_stubborn(directory: Path, count: int, seed: int, at_once: int = 10) -> tuple[Counter[str], float]:
    """Cancel ``count`` runs whose workers ignore signals; returns survivors after 10 s and the longest cancel, in seconds."""
    choose = random.Random(seed)
    gate = asyncio.Semaphore(at_once)
    counts: Counter[str] = Counter(cancels=count)
    longest = 0.0

    async def once(number: int, script: str, is_runner_killed: bool) -> None:
        nonlocal longest
        async with gate:
            one = Lab(directory / str(number), [script])
            await one.start()
            await until(lambda: len(ProcessTree(one.run(0)).scan()) >= 2)
            if is_runner_killed:
                os.kill(one.pid(0), signal.SIGKILL)
            began = time.monotonic()
            answer = await one.ask(0, "cancel", run_id=RUN)
            longest = max(longest, time.monotonic() - began)
            counts["reported"] += len(answer["survivors"])
            counts["survivors"] += len(ProcessTree(one.run(0)).scan())
            counts["late"] += time.monotonic() - began > 10.0

    await asyncio.gather(*(once(number, choose.choice(STUBBORN), choose.random() < 0.1) for number in range(count)))
    return counts, longest
