"""Predicted against measured steps over a real rate limit: ``python -m benchmarks advice/netns``.

EMULATED devices of the reference lab, each in a network namespace of its own, joined by a bridge; tbf limits their outgoing rate,
and real gloo all-reduces pass through it. Everything is profiled first, predictions are written, and then everything is measured:
cold, and with the overlap calibrated on one configuration. Needs root and a kernel with namespaces, veth, bridge and tbf; where one
is missing, the benchmark prints which and ends with 0. The namespaces are anonymous, so nothing of them is left behind. About 4
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
from paceline.engine.advisor.calibrate import PROBE_STEPS, calibrate_overlap
from paceline.engine.advisor.predict import Candidate, predict
from paceline.engine.training.group.rank_process import die_with_parent

from benchmarks.advice.emulated import COMPARED, GROUPS, SPEEDS, Way, make_player, measure, named, sizes_of
from benchmarks.advice.ranks import profile_lab, slowest_median
from benchmarks.table import print_line, write_csv

RATES = {"1 Gbit/s": "1gbit", "250 Mbit/s": "250mbit", "100 Mbit/s": "100mbit"}
BATCH = 192
MEASURED = 8
PROBED = ("250 Mbit/s", Candidate((0, 1, 2, 3), BATCH))
INNER, RANK = "--inside", "--rank"
NETWORK_TIMEOUT_S = 60.0
"""Seconds within which the network of a rank must be set up."""


def limit_command(rate: str) -> list[str]:
    """The command that limits the outgoing rate of a rank. The burst is what passes within one timer tick at the fastest rate."""
    return ["tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", rate, "burst", "128kb", "latency", "200ms"]


def missing_requirement() -> str:
    """What this machine lacks; empty: nothing."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "namespaces need Linux and root"
    trial = "ip link add eth0 type veth peer name v0 && ip link add br0 type bridge && " + " ".join(limit_command("1gbit"))
    try:
        tried = subprocess.run(["unshare", "--net", "sh", "-c", trial], capture_output=True, text=True, timeout=NETWORK_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"unshare could not be run: {error}"
    return (tried.stderr.strip().splitlines() or ["it was refused"])[-1] if tried.returncode else ""


def run_rank(rank: int, place: str) -> None:
    """Profile, predict and measure as one of four ranks, in a namespace that the parent connects."""
    die_with_parent()
    Path(place, f"here{rank}").touch()
    wait_for(Path(place, "joined"))
    os.environ["GLOO_SOCKET_IFNAME"] = "eth0"

    def use(name: str) -> None:
        if name in RATES:
            subprocess.run(limit_command(RATES[name]), check=True)

    player = make_player(rank, place)
    asked: list[Way] = [("alone", Candidate((0,), BATCH))]
    asked += [
        (name, Candidate(group, BATCH, policy))
        for name in RATES
        for group in GROUPS
        for policy in COMPARED
        if policy == "hybrid" or group != (2, 3)  # equal devices: both are one
    ]
    profiles = profile_lab(player, len(SPEEDS), sizes_of(rank), list(RATES), use)
    profiles["alone"] = profiles[PROBED[0]]
    cold = [predict(profiles[name], one) for name, one in asked]
    if rank == 0:
        predictions = [(name, *named(one), prediction.step_seconds) for (name, one), prediction in zip(asked, cold, strict=True)]
        write_csv("advice_netns_predicted", ("rate", "devices", "batch", "shares", "predicted seconds"), predictions)
        for name, profile in profiles.items():
            sums = profile.all_reduce
            assert sums is not None
            print(f"{name}: sum {sums.alpha * 1000:.2f} ms + bytes / {sums.beta / 1e6:.1f} MB/s, off {sums.residual:.1%}")
    use(PROBED[0])
    dist.barrier()
    share = predict(profiles[PROBED[0]], PROBED[1]).local_batch_sizes[rank]
    world = dist.distributed_c10d._get_default_group()
    probe = slowest_median(player.train(world, len(SPEEDS), None, share, PROBE_STEPS))
    taught = calibrate_overlap(profiles[PROBED[0]], [(PROBED[1], probe)])
    warm = [
        predict(replace(profiles[name], overlap=taught.overlap, is_calibrated=taught.is_calibrated), one).step_seconds
        for name, one in asked
    ]
    measured = measure(player, asked, cold, MEASURED, use)
    if rank == 0:
        predicted = [prediction.step_seconds for prediction in cold]
        lines = [(*one, *seconds, taught.overlap) for one, *seconds in zip(asked, predicted, warm, measured, strict=True)]
        torch.save(lines, f"{place}/lines")
    dist.barrier()


def wait_for(path: Path) -> None:
    """Wait until the file exists. Raises SystemExit after NETWORK_TIMEOUT_S."""
    until = time.monotonic() + NETWORK_TIMEOUT_S
    while not path.exists():
        if time.monotonic() > until:
            raise SystemExit(f"{path.name} did not come within {NETWORK_TIMEOUT_S:.0f} s")
        time.sleep(0.05)


def inside(place: str) -> int:
    """Create the bridge, and a namespace, a veth pair and a process for every rank; runs in a namespace of its own."""
    die_with_parent()
    ranks: list[subprocess.Popen[bytes]] = []

    def run(*words: str) -> None:
        subprocess.run(words, check=True)

    run("ip", "link", "add", "br0", "type", "bridge")
    run("ip", "link", "set", "br0", "up")
    try:
        for rank in range(len(SPEEDS)):
            ranks.append(subprocess.Popen(["unshare", "--net", *own_command(RANK, str(rank), place)]))
            wait_for(Path(place, f"here{rank}"))
            enter = ("nsenter", f"--net=/proc/{ranks[rank].pid}/ns/net")
            run("ip", "link", "add", f"v{rank}", "type", "veth", "peer", "name", "eth0", "netns", str(ranks[rank].pid))
            run("ip", "link", "set", f"v{rank}", "master", "br0", "up")
            run(*enter, "ip", "address", "add", f"10.0.0.{rank + 1}/24", "dev", "eth0")
            run(*enter, "ip", "link", "set", "lo", "up")
            run(*enter, "ip", "link", "set", "eth0", "up")
        Path(place, "joined").touch()
        return max(abs(rank.wait()) for rank in ranks)
    finally:
        for one in ranks:
            one.kill()


def own_command(*words: str) -> list[str]:
    """The command that runs this module again."""
    return [sys.executable, "-m", "benchmarks.advice.netns", *words]


def main() -> int:
    """Run the ranks and print the figures. Returns 0 where a requirement is missing."""
    missing = missing_requirement()
    if missing:
        print(f"not measured: no network namespaces with a rate limit here: {missing}")
        return 0
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        status = subprocess.run(["unshare", "--net", *own_command(INNER, place)]).returncode
        if status != 0:
            return status
        found = torch.load(f"{place}/lines", weights_only=False)
    header = ("rate", "devices", "batch", "shares", "cold seconds", "probed seconds", "measured seconds", "overlap")
    write_csv("advice_netns", header, [(name, *named(one), *seconds) for name, one, *seconds in found])
    distributed = [one for one in found if one[0] != "alone"]
    for what, column, goal in (("cold", 2, 0.15), ("after the probe", 3, 0.08)):
        errors = [abs(one[column] / one[4] - 1) for one in distributed if column == 2 or one[:2] != PROBED]
        figure = f"{mean(errors):.1%}, largest {max(errors):.1%}, {len(errors)} configurations"
        print_line(
            f"namespaces with tbf, EMULATED devices, step time predicted, {what} (MAPE)",
            f"<= {goal:.0%}",
            figure,
            mean(errors) <= goal,
        )
    right, clear, wrong_yes = decisions(found)
    print(f"calibrated overlap: {found[0][5]:.2f}; {time.perf_counter() - began:.0f} s")
    figure = f"{right} of {clear} outside +-5 %; yes below .9x: {wrong_yes}"
    print_line("namespaces with tbf: does distributing pay", ">= 95 %, never", figure, right >= 0.95 * clear and not wrong_yes)
    return 0


def decisions(found: Sequence[tuple[str, Candidate, float, float, float, float]]) -> tuple[int, int, int]:
    """Number of right decisions after calibration, of decisions outside a 5 % band around 1x, and of recommendations below .9x."""
    _, _, _, expected_alone, alone, _ = next(one for one in found if one[0] == "alone")
    ratios = [(expected_alone / one[3], alone / one[4]) for one in found if one[0] != "alone"]
    clear = [(expected, speedup) for expected, speedup in ratios if abs(speedup - 1) > 0.05]
    right = sum((expected > 1) == (speedup > 1) for expected, speedup in clear)
    return right, len(clear), sum(expected > 1.05 and speedup < 0.9 for expected, speedup in ratios)


if __name__ == "__main__":
    if RANK in sys.argv:
        run_rank(int(sys.argv[2]), sys.argv[3])
        sys.stdout.flush()
        os._exit(0)  # does not wait for gloo's threads
    sys.exit(inside(sys.argv[2]) if INNER in sys.argv else main())
