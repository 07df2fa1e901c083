"""What one rank keeps from joining the group to leaving it: data, device, profile, and one trainer a case."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from ..balancer.model import StepTime
from ..balancer.policies import Problem
from ..errors import PlanImpossible
from ..events import RankJoined
from ..plan import CasePlan, Plan, RankPlan
from .data import Split, load
from .emulation import EmulatedTimer
from .group import Group, device_of, join
from .loop import Case
from .measure import Standalone, probe
from .models import build
from .ranklog import RankLog
from .tasks import Task, task_of
from .timing import CpuTimer, CudaTimer
from .trainer import Trainer, make_trainer
from .workloads import WORKLOADS, Workload


@dataclass(slots=True)
class Session:
    """One rank of one run."""

    plan: Plan
    rank: RankPlan
    run_dir: Path
    log: RankLog
    workload: Workload
    task: Task
    device: torch.device
    timer: CpuTimer
    training: Split
    validation: Split
    _group: Group | None = None
    _standalone: Standalone | None = None
    _profile: tuple[StepTime, ...] = ()
    _highs: tuple[int, ...] = ()
    _last: tuple[Trainer, int, int] | None = None
    """Trainer, steps taken and local batch size of the case that ended."""

    @classmethod
    def prepare(cls, plan: Plan, rank: RankPlan, run_dir: Path, log: RankLog) -> Session:
        """All that needs no other rank, done before the group forms as it takes its time: data, device, torch's lazy imports."""
        if plan.workload not in WORKLOADS:
            raise PlanImpossible(f"this version knows no workload {plan.workload!r}", hint="known: " + ", ".join(WORKLOADS))
        workload = WORKLOADS[plan.workload]
        training, validation = load(run_dir, plan)
        device = device_of(rank)
        model = build(workload.name)
        torch.optim.Adam(model.parameters())  # the first optimizer imports torch._dynamo: about a second
        timer = CpuTimer()
        if rank.emulation is not None:
            timer = EmulatedTimer(rank, rank.emulation, workload, model)
        elif device.type == "cuda":
            timer = CudaTimer(device)
        return cls(plan, rank, run_dir, log, workload, task_of(workload), device, timer, training, validation)

    @property
    def group(self) -> Group:
        """The group, once joined."""
        if self._group is None:
            raise PlanImpossible("the rank has not joined its group")
        return self._group

    def join(self) -> None:
        """Become one group with all other ranks of the plan."""
        self._group = join(self.plan, self.rank, self.device, self.run_dir, self.log)
        self._standalone = Standalone(self._group, self.training, self.log)
        self.log.write(RankJoined(pid=os.getpid(), world_size=self._group.size, backend=self.plan.backend))

    def probe(self) -> None:
        """Time every device at two local batch sizes, all at once, and learn the others' lines and limits."""
        batch = self._batch()
        most = self.timer.most_samples()
        high = batch if most is None else min(most, batch)
        line = probe(self.workload, self.task, self.training, self.timer, self.device, high, self.log)
        table = self.group.gather([line.fixed_seconds, line.seconds_per_sample, float(high)])
        self._profile = tuple(StepTime(row[0], row[1]) for row in table)
        self._highs = tuple(round(row[2]) for row in table)

    def train(self, case: CasePlan) -> None:
        """One case from its first step to its last evaluation."""
        self.log.case = case.name
        trainer = make_trainer(
            self.workload,
            self.task,
            self.training,
            self.timer,
            self.group.rank,
            self.group.size,
            self.device,
            self.plan.seed,
            is_late=any(rank.device_kind == "cuda" for rank in self.plan.ranks),
        )
        lows = (1,) * len(self._profile)
        problem = Problem(case.policy, self._batch(), self._profile, lows, self._highs)
        running = Case(self.workload, problem, trainer, self.validation, self.group, self.log, self.plan.seed, self.plan.epochs)
        memory, taken = running.train()
        self._last = (trainer, taken, memory.local_batch_sizes[self.group.rank])

    def measure_standalone(self, case: CasePlan) -> None:
        """How fast this device is alone, at the local batch the case ended with."""
        if self._last is not None and self._standalone is not None:
            trainer, step, size = self._last
            self._standalone.measure(trainer, case.name, step, size)

    def leave(self) -> None:
        """End together."""
        self.group.close()

    def _batch(self) -> int:
        """The global batch; no step has more samples than there are."""
        return min(self.plan.global_batch_size, len(self.training))
