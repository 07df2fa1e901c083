"""Strangers at every port of a run: ``python -m benchmarks.fleet.doors [--runs N]``.

REAL runs of an embedded lab with two nodes, emulated devices. First attacks, one by one, on the ports of two runners that look for
each other: how long they hold them up, and what they cost. Then all attacks at once on every port of whole runs, from the moment it
opens to the end, beside the same runs left in peace; with the ports themselves, as /proc/net lists them. Three minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from paceline.engine.agent.runner.identity import Identity
from paceline.engine.agent.runner.peer_mesh import PeerMesh
from paceline.engine.jobs.doors.certificates import make_certificates

from benchmarks.places import CHECKOUT
from benchmarks.table import Figure, print_figures
from tests.support.attackers import ATTACKS
from tests.support.runs.labs import LabDirectory
from tests.support.siege import Siege

MAX_HOLD_S, MAX_GROWTH = 5.0, 50 << 20
"""Goals: seconds by which strangers may hold a run up, and bytes that they may cost a process."""
NODES = ("n0", "n1")


def measure(runs: int) -> list[Figure]:
    """All figures; ``runs``: whole runs in peace and under siege each."""
    figures = [*_attack_runners()]
    peaceful: list[dict[str, Any]] = []
    besieged: list[dict[str, Any]] = []
    for number in range(runs):
        for kept, attacks in ((peaceful, ()), (besieged, tuple(ATTACKS.values()))):
            with tempfile.TemporaryDirectory(prefix="doors-") as name:
                lab = LabDirectory(Path(name), {"fast": 60.0, "slow": 20.0})
                with Siege(lab, attacks) as siege:
                    started = time.monotonic()
                    status, document = lab.run("train", "--epochs", "20", "--seed", str(number))
                    seconds = time.monotonic() - started
                state = document.get("state") or f"status {status}: {lab.narration()[-300:]}"
                facts = _facts(lab) | {"state": state, "peak": siege.peaks, "code": siege.marker.exists()}
                facts |= {"let_in": siege.let_in, "open": siege.open_seconds}
                kept.append(facts)
                print(f"      {'besieged' if attacks else 'peaceful'}: {state}, {seconds:.1f} s, ports {siege.ports}", flush=True)
                if number == 0 and not attacks:
                    figures += _sockets(siege)
    return [*figures, *_compare(peaceful, besieged)]


def _sockets(siege: Siege) -> list[Figure]:
    outside = [place for place in siege.ports if place[0] != "127.0.0.1"]
    runners = sum(name == "runner" for name in siege.ports.values())
    others = len(siege.ports) - runners
    value = f"{runners} of runners, {others} of gloo, {len(outside)} elsewhere"
    met = not outside and runners <= len(NODES) and others <= len(NODES)
    return [Figure("ports of a run on two nodes, both families, all on 127.0.0.1", "2 and 2, 0 on *", value, met)]


def _compare(peaceful: Sequence[dict[str, Any]], besieged: Sequence[dict[str, Any]]) -> list[Figure]:
    done = sum(run["state"] == "done" for run in besieged)
    held = {what: median(run[what] for run in besieged) - median(run[what] for run in peaceful) for what in ("start", "gap", "end")}
    usual = max(peak for run in peaceful for peak in run["peak"].values())
    grown = max(peak for run in besieged for peak in run["peak"].values()) - usual
    code = sum(run["code"] for run in besieged)
    told = sum(run["strangers"] for run in besieged)
    let_in, seconds = sum(run["let_in"] for run in besieged), max(run["open"] for run in besieged)
    return [
        Figure("besieged runs that were done", f"{len(besieged)}", f"{done}", done == len(besieged)),
        Figure(
            "held up at the start, between two lines of steps, at the end",
            f"<= {MAX_HOLD_S:.0f} s",
            ", ".join(f"{seconds:+.1f} s" for seconds in held.values()),
            max(held.values()) <= MAX_HOLD_S,
        ),
        Figure("memory of the largest process, against peace", "+50 MB at most", f"{grown / 1e6:+.0f} MB", grown <= MAX_GROWTH),
        Figure("code of strangers run", "0", f"{code}", code == 0),
        Figure(
            "strangers that gloo's ports took while the group formed", "measured", f"{let_in}, within {seconds * 1e3:.0f} ms", True
        ),
        Figure("strangers that these runs counted before their runners had met", "measured", f"{told}", True),
    ]


def _facts(lab: LabDirectory) -> dict[str, Any]:
    """Seconds until all ranks had joined, longest gap between lines of rank 0, seconds from its last line to the end, strangers."""
    run_id = lab.run_id()
    lines = {name: _lines(lab.node("n0") / "runs" / run_id / name) for name in ("events.jsonl", "ranks/0.jsonl")}
    events, own = lines["events.jsonl"], lines["ranks/0.jsonl"]
    began = events[0]["node_time"]
    joined = next((line["node_time"] for line in own if line["kind"] == "RankJoined"), began + 600)
    steps = [line["node_time"] for line in own if line["kind"] == "StepsTaken"]
    ended = next((line["node_time"] for line in events if line["kind"] == "RunnerEnded"), began + 600)
    told = [
        line["count"]
        for node in NODES
        for line in _lines(lab.node(node) / "runs" / run_id / "events.jsonl")
        if line["kind"] == "StrangersRefused"
    ]
    gaps = [later - earlier for earlier, later in itertools.pairwise(steps)]
    return {
        "start": joined - began,
        "gap": max(gaps, default=600.0),
        "end": ended - (steps[-1] if steps else began),
        "strangers": sum(told),
    }


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _attack_runners() -> list[Figure]:
    """Each attack in a process of its own, so that its memory is its own, too."""
    seconds, growth, counted = {}, {}, {}
    usual = _meet("")
    for name in ATTACKS:
        result = _meet(name)
        seconds[name], growth[name] = result["seconds"] - usual["seconds"], result["peak"] - usual["peak"]
        counted[name] = round(result["strangers"])
        print(f"      {name}: {seconds[name]:+.2f} s, {growth[name] / 1e6:+.0f} MB, {counted[name]} strangers", flush=True)
    slowest, largest = max(seconds, key=seconds.__getitem__), max(growth, key=growth.__getitem__)
    return [
        Figure(
            f"two runners meet under each of {len(ATTACKS)} attacks: longest hold",
            f"<= {MAX_HOLD_S:.0f} s",
            f"{seconds[slowest]:+.2f} s ({slowest})",
            seconds[slowest] <= MAX_HOLD_S,
        ),
        Figure(
            "attacks whose strangers were counted",
            f"{len(ATTACKS)}",
            f"{sum(number > 0 for number in counted.values())}, {sum(counted.values())} strangers",
            min(counted.values()) > 0,
        ),
        Figure(
            "memory that an attack costs them", "+50 MB at most", f"{growth[largest] / 1e6:+.0f} MB", growth[largest] <= MAX_GROWTH
        ),
    ]


def _meet(attack: str) -> dict[str, float]:
    """Two runners' meshes in one process, the attackers in another."""
    command = [sys.executable, "-m", "benchmarks.fleet.doors", "--meet", attack or "none"]
    out = subprocess.run(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, check=True).stdout
    facts: dict[str, float] = json.loads(out)
    return facts


def _meet_here(attack: str) -> None:
    """Let two runners meet while others attack, and print how long it took and how much memory."""
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(_meet_under(attack, Path(name)))


async def _meet_under(attack: str, directory: Path) -> None:
    certificates = make_certificates("a run", NODES)
    strangers: list[object] = []
    meshes = [
        PeerMesh(name, NODES, Identity(directory / name, own), lambda *heard: None, lambda *who: strangers.append(who))
        for name, own in certificates.items()
    ]
    ports = [mesh.listen("127.0.0.1") for mesh in meshes]
    attackers: asyncio.subprocess.Process | None = None
    if attack != "none":
        words = ("-m", "benchmarks.fleet.doors", "--attack", attack, *map(str, ports))
        attackers = await asyncio.create_subprocess_exec(sys.executable, *words, cwd=CHECKOUT, stdout=asyncio.subprocess.PIPE)
        assert attackers.stdout is not None
        await attackers.stdout.readline()  # they have begun
        await asyncio.sleep(2.0)
    started = time.monotonic()
    for mesh in meshes:
        mesh.introduce({name: ["127.0.0.1", port] for name, port in zip(NODES, ports, strict=True)})
    await asyncio.gather(meshes[0].join([], 60.0), meshes[1].join(["n0"], 60.0))
    seconds = time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    print(json.dumps({"seconds": seconds, "peak": peak, "strangers": len(strangers)}))
    for mesh in meshes:
        await mesh.close()
    if attackers is not None:
        attackers.kill()
        await attackers.wait()


async def _attack_here(name: str, ports: Sequence[int]) -> None:
    """Attack for a minute or until killed, again and again."""
    marker = Path(tempfile.gettempdir()) / f"code-was-run-{os.getpid()}"

    async def again(port: int) -> None:
        while True:
            await ATTACKS[name](("127.0.0.1", port), marker)
            await asyncio.sleep(0.01)

    print("begun", flush=True)
    await asyncio.wait([asyncio.ensure_future(again(port)) for port in ports], timeout=60.0)


def main() -> int:
    """Measure and print. Returns 1 where a goal was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--meet", help=argparse.SUPPRESS)
    parser.add_argument("--attack", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.attack:
        asyncio.run(_attack_here(args.attack[0], [int(port) for port in args.attack[1:]]))
        return 0
    if args.meet:
        _meet_here(args.meet)
        return 0
    return print_figures(measure(args.runs))


if __name__ == "__main__":
    sys.exit(main())
