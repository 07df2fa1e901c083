"""Predicted against measured steps over a real rate limit: ``python benchmarks/advice/netns.py``.

EMULATED devices of the reference lab, each in a network namespace of its own, joined by a bridge; tbf holds back what leaves them,
and real gloo sums travel through that. As ever all is profiled first, predictions are kept, and then everything is measured: cold,
and with the overlap that one configuration has taught. Needs root and a kernel with namespaces, veth, bridge and tbf; where
something is missing it says so and ends with 0. The namespaces have no name: whatever happens, nothing of them is left. About 4
minutes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

import torch
import torch.distributed as dist
from paceline.engine.advisor.calibrate import STEPS, calibrated
from paceline.engine.advisor.predict import Candidate, predict
from paceline.engine.training.group import die_with_parent

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.advice.emulated import GROUPS, SPEEDS, Way, make_player, measure, named, sizes_of
from benchmarks.advice.ranks import everyones, profile_lab
from benchmarks.table import row, write_csv

RATES = {"1 Gbit/s": "1gbit", "250 Mbit/s": "250mbit", "100 Mbit/s": "100mbit"}
BATCH = 192
MEASURED = 8
PROBED = ("250 Mbit/s", Candidate((0, 1, 2, 3), BATCH))
INNER, RANK = "--inside", "--rank"
LIMIT = 60.0
"""Seconds within which a rank has its network."""


def limit(rate: str) -> list[str]:
    """The command that holds back what leaves a rank. The burst is what a timer's tick lets pass at the fastest rate."""
    return ["tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", rate, "burst", "128kb", "latency", "200ms"]


def why_not() -> str:
    """What is missing here; empty: nothing."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "namespaces need Linux and root"
    trial = "ip link add eth0 type veth peer name v0 && ip link add br0 type bridge && " + " ".join(limit("1gbit"))
    try:
        tried = subprocess.run(["unshare", "--net", "sh", "-c", trial], capture_output=True, text=True, timeout=LIMIT)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"unshare could not be run: {error}"
    return (tried.stderr.strip().splitlines() or ["it was refused"])[-1] if tried.returncode else ""


def run_rank(rank: int, place: str) -> None:
    """One of four processes, in a namespace that the parent puts a cable into."""
    die_with_parent()
    Path(place, f"here{rank}").touch()
    wait_for(Path(place, "joined"))
    os.environ["GLOO_SOCKET_IFNAME"] = "eth0"

    def use(name: str) -> None:
        if name in RATES:
            subprocess.run(limit(RATES[name]), check=True)

    player = make_player(rank, place)
    asked: list[Way] = [("alone", Candidate((0,), BATCH))]
    asked += [
        (name, Candidate(group, BATCH, balanced))
        for name in RATES
        for group in GROUPS
        for balanced in (True, False)
        if balanced or group != (2, 3)  # equal devices: both are one
    ]
    profiles = profile_lab(player, len(SPEEDS), sizes_of(rank), list(RATES), use)
    profiles["alone"] = profiles[PROBED[0]]
    cold = [predict(profiles[name], one) for name, one in asked]
    if rank == 0:
        lines = [(name, *named(one), told.step_seconds) for (name, one), told in zip(asked, cold, strict=True)]
        write_csv("advice_netns_predicted", ("rate", "devices", "batch", "shares", "predicted seconds"), lines)
        for name, profile in profiles.items():
            sums = profile.all_reduce
            assert sums is not None
            print(f"{name}: sum {sums.alpha * 1000:.2f} ms + bytes / {sums.beta / 1e6:.1f} MB/s, off {sums.residual:.1%}")
    use(PROBED[0])
    dist.barrier()
    share = predict(profiles[PROBED[0]], PROBED[1]).local_batch_sizes[rank]
    world = dist.distributed_c10d._get_default_group()
    probe = everyones(player.train(world, len(SPEEDS), None, share, STEPS))
    taught = calibrated(profiles[PROBED[0]], [(PROBED[1], probe)])
    warm = [
        predict(replace(profiles[name], overlap=taught.overlap, is_calibrated=taught.is_calibrated), one).step_seconds
        for name, one in asked
    ]
    measured = measure(player, asked, cold, MEASURED, use)
    if rank == 0:
        predicted = [told.step_seconds for told in cold]
        lines = [(*one, *seconds, taught.overlap) for one, *seconds in zip(asked, predicted, warm, measured, strict=True)]
        torch.save(lines, f"{place}/told")
    dist.barrier()


def wait_for(path: Path) -> None:
    """Until somebody has made it. Raises SystemExit after LIMIT."""
    until = time.monotonic() + LIMIT
    while not path.exists():
        if time.monotonic() > until:
            raise SystemExit(f"{path.name} did not come within {LIMIT:.0f} s")
        time.sleep(0.05)


def inside(place: str) -> int:
    """The parent, in a namespace of its own: the bridge, a namespace and a cable for every rank, and the ranks."""
    die_with_parent()
    ranks: list[subprocess.Popen[bytes]] = []

    def do(*words: str) -> None:
        subprocess.run(words, check=True)

    do("ip", "link", "add", "br0", "type", "bridge")
    do("ip", "link", "set", "br0", "up")
    try:
        for rank in range(len(SPEEDS)):
            ranks.append(subprocess.Popen(["unshare", "--net", *myself(RANK, str(rank), place)]))
            wait_for(Path(place, f"here{rank}"))
            there = ("nsenter", f"--net=/proc/{ranks[rank].pid}/ns/net")
            do("ip", "link", "add", f"v{rank}", "type", "veth", "peer", "name", "eth0", "netns", str(ranks[rank].pid))
            do("ip", "link", "set", f"v{rank}", "master", "br0", "up")
            do(*there, "ip", "address", "add", f"10.0.0.{rank + 1}/24", "dev", "eth0")
            do(*there, "ip", "link", "set", "lo", "up")
            do(*there, "ip", "link", "set", "eth0", "up")
        Path(place, "joined").touch()
        return max(abs(rank.wait()) for rank in ranks)
    finally:
        for one in ranks:
            one.kill()


def myself(*words: str) -> list[str]:
    """The command that runs this file again."""
    return [sys.executable, str(Path(__file__).resolve()), *words]


def main() -> int:
    """The rows."""
    missing = why_not()
    if missing:
        print(f"not measured: no network namespaces with a rate limit here: {missing}")
        return 0
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        status = subprocess.run(["unshare", "--net", *myself(INNER, place)]).returncode
        if status != 0:
            return status
        found = torch.load(f"{place}/told", weights_only=False)
    header = ("rate", "devices", "batch", "shares", "cold seconds", "probed seconds", "measured seconds", "overlap")
    write_csv("advice_netns", header, [(name, *named(one), *seconds) for name, one, *seconds in found])
    told = [one for one in found if one[0] != "alone"]
    for what, column, goal in (("cold", 2, 0.15), ("after the probe", 3, 0.08)):
        errors = [abs(one[column] / one[4] - 1) for one in told if column == 2 or one[:2] != PROBED]
        figure = f"{mean(errors):.1%}, largest {max(errors):.1%}, {len(errors)} configurations"
        row(
            f"namespaces with tbf, EMULATED devices, step time predicted, {what} (MAPE)",
            f"<= {goal:.0%}",
            figure,
            mean(errors) <= goal,
        )
    right, clear, wrong_yes = decisions(found)
    print(f"overlap learnt: {found[0][5]:.2f}; {time.perf_counter() - began:.0f} s")
    figure = f"{right} of {clear} outside +-5 %; yes below .9x: {wrong_yes}"
    row("namespaces with tbf: does distributing pay", ">= 95 %, never", figure, right >= 0.95 * clear and not wrong_yes)
    return 0


def decisions(found: Sequence[tuple[str, Candidate, float, float, float, float]]) -> tuple[int, int, int]:
    """Right ones after the probe, those outside a 5 % band of 1x, and times that yes was said below .9x."""
    _, _, _, expected_alone, alone, _ = next(one for one in found if one[0] == "alone")
    ratios = [(expected_alone / one[3], alone / one[4]) for one in found if one[0] != "alone"]
    clear = [(expected, speedup) for expected, speedup in ratios if abs(speedup - 1) > 0.05]
    right = sum((expected > 1) == (speedup > 1) for expected, speedup in clear)
    return right, len(clear), sum(expected > 1.05 and speedup < 0.9 for expected, speedup in ratios)


if __name__ == "__main__":
    if RANK in sys.argv:
        run_rank(int(sys.argv[2]), sys.argv[3])
        sys.stdout.flush()
        os._exit(0)  # gloo's threads are not waited for
    sys.exit(inside(sys.argv[2]) if INNER in sys.argv else main())
