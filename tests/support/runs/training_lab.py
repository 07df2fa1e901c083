"""Replaces the runners in tests of training alone: run directories, data, one torchrun a node, the group's store."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from paceline.engine.events import Event, RankEvent
from paceline.engine.plan import CasePlan, DataPlan, Emulation, NodePlan, Plan, RankPlan
from paceline.engine.specs import FaultSpec
from paceline.engine.states import Policy
from paceline.engine.wire import decode, dumps

from tests.support.runs.store_service import StoreService
from tests.support.waiting import until_sync

E = TypeVar("E", bound=Event)


def digit_arrays() -> dict[str, np.ndarray]:
    """scikit-learn's digits, 80/20 in a fixed order."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    keys = [hashlib.sha256(str(i).encode()).digest() for i in range(len(bunch.target))]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    x = (bunch.images[order] / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    y = bunch.target[order].astype(np.int64)
    return {"train_x": x[360:], "train_y": y[360:], "validation_x": x[:360], "validation_y": y[:360]}


def toy_arrays(samples: int = 96) -> dict[str, np.ndarray]:
    """A few windows of a sine, for sp500-mlp."""
    wave = np.sin(np.arange(samples + 90) / 5).astype(np.float32)
    x = np.stack([wave[i : i + 60] for i in range(samples + 30)])
    y = wave[60 : 60 + samples + 30].copy()
    return {"train_x": x[:samples], "train_y": y[:samples], "validation_x": x[samples:], "validation_y": y[samples:]}


def make_plan(
    workload: str,
    speeds: list[list[float]],
    policies: Sequence[Policy],
    *,
    epochs: int,
    batch: int,
    is_bench: bool = False,
    faults: Mapping[int, tuple[FaultSpec, ...]] | None = None,
    timeout: float = 60.0,
) -> Plan:
    """One node for each inner list, one emulated device for each speed in it; all on loopback."""
    ranks: list[RankPlan] = []
    nodes = []
    for node_rank, devices in enumerate(speeds):
        mine = []
        for local_rank, speed in enumerate(devices):
            rank = len(ranks)
            emulation = Emulation(speed, (faults or {}).get(rank, ()))
            ranks.append(RankPlan(rank, f"n{node_rank}", node_rank, local_rank, local_rank, "emulated", "toy", 4 << 30, emulation))
            mine.append(rank)
        nodes.append(NodePlan(f"n{node_rank}", node_rank, tuple(mine), "127.0.0.1", "lo", sys.executable))
    cases = tuple(CasePlan(policy, policy) for policy in policies)
    data = DataPlan("0123456789abcdef", "test", 1, "0")
    return Plan("r1", workload, cases, tuple(nodes), tuple(ranks), data, epochs, batch, is_bench=is_bench, timeout=timeout)


class Lab:
    """The nodes of one run below one directory."""

    def __init__(self, place: Path, plan: Plan, arrays: dict[str, np.ndarray]) -> None:
        self.plan, self.path = plan, place
        self.processes: list[subprocess.Popen[bytes]] = []
        self.store = StoreService([self.run_dir(node.name) for node in plan.nodes], len(plan.ranks))
        for node in plan.nodes:
            data = place / node.name / "data" / plan.data.digest
            data.mkdir(parents=True)
            for name, array in arrays.items():
                np.save(data / f"{name}.npy", array)
            (data / "manifest.json").write_text("{}")
            (self.run_dir(node.name) / "ranks").mkdir(parents=True)
            (self.run_dir(node.name) / "plan.json").write_text(dumps(plan))

    def run_dir(self, node: str) -> Path:
        return self.path / node / "runs" / self.plan.run_id

    def start(self, *, with_torchrun: bool = True) -> None:
        """Start one torchrun a node, or its ranks alone: a torchrun costs seconds of processor time for its import of torch."""
        self.store.start()
        for node in self.plan.nodes:
            place = (str(self.run_dir(node.name)), node.name)
            if with_torchrun:
                self._start(node, "-m", "paceline.engine.training.launcher", *place)
            else:
                program = f"paceline.engine.{self.plan.program}"
                for local_rank in range(len(node.ranks)):
                    self._start(node, "-m", "paceline.engine.training.worker", *place, program, LOCAL_RANK=str(local_rank))

    def _start(self, node: NodePlan, *words: str, **env: str) -> None:
        env |= {"GLOO_SOCKET_IFNAME": node.interface, "OMP_NUM_THREADS": "1", "PACELINE_NODE": node.name}
        with (self.run_dir(node.name) / "out.log").open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, *words], stdout=out, stderr=out, env={**os.environ, **env}, start_new_session=True
            )
        self.processes.append(process)

    def follow(self, act: Callable[[], None] = lambda: None) -> list[int]:
        """Wait for the end, calling ``act`` meanwhile; returns the exit statuses."""

        def have_ended() -> bool:
            act()
            return all(process.poll() is not None for process in self.processes)

        try:
            until_sync(have_ended)
        except AssertionError as error:
            self.stop()
            raise AssertionError("the run hangs:\n" + self.output()) from error
        self.store.stop()
        return [process.returncode for process in self.processes]

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self.store.stop()

    def output(self) -> str:
        return "\n".join((self.run_dir(node.name) / "out.log").read_text()[-3000:] for node in self.plan.nodes)

    def events(self, rank: int) -> list[Event]:
        path = self.run_dir(self.plan.ranks[rank].node) / "ranks" / f"{rank}.jsonl"
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        return [event for line in lines if (event := decode(line)) is not None]

    def of(self, kind: type[E], rank: int, case: str | None = None) -> list[E]:
        """Events of one kind of one rank, in order."""
        return [
            e for e in self.events(rank) if isinstance(e, kind) and (case is None or (isinstance(e, RankEvent) and e.case == case))
        ]

    def first(self, kind: type[E], rank: int = 0) -> Any:
        """The first such event; None where there is none yet."""
        return next(iter(self.of(kind, rank)), None)
