"""The verb ``suite``: benchmarks of several workloads in interleaved rounds, with a journal of what came of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...errors import UsageError
from ...experiments.journal import Journal
from ...experiments.suite import QUICK_EPOCHS, check_workloads, facts_of_bench, suite_document, suite_order
from ...reports.document_type import Document
from ...specs import TrainSpec
from ...states import POLICIES, Policy
from ...workloads import WORKLOADS
from .experiment import Experiment


@dataclass(frozen=True, slots=True)
class SuiteRequest:
    """What a person asked for."""

    workloads: tuple[str, ...] = ("digits-cnn",)
    policies: tuple[Policy, ...] = field(default=POLICIES)
    repeats: int = 3
    epochs: int | None = None
    is_quick: bool = False
    """Whether one round of few epochs is enough to see that everything works."""
    devices: str = "all"
    seed: int = 0
    is_shared: bool = False


class Suite(Experiment[SuiteRequest]):
    """One suite on the machines of a session."""

    kind = "suite"

    async def _plan(self, request: SuiteRequest) -> Document:
        if request.is_quick and request.epochs is not None:
            raise UsageError("--quick has its own number of epochs", hint="leave out --quick or --epochs")
        inventory = self._session.inventory
        return {
            "workloads": list(check_workloads(request.workloads, tuple(WORKLOADS))),
            "policies": list(request.policies),
            "repeats": 1 if request.is_quick else request.repeats,
            "epochs": QUICK_EPOCHS if request.is_quick else request.epochs,
            "devices": request.devices,
            "seed": request.seed,
            "is_shared": request.is_shared,
            "is_emulated": any(node.devices for node in inventory.nodes),
            "is_network_emulated": inventory.link is not None,
        }

    async def _run(self, journal: Journal) -> None:
        plan = journal.plan
        order = suite_order(len(plan["workloads"]), plan["repeats"])
        cases = ((f"round {turn + 1}, {plan['workloads'][index]}", _job(plan, index, turn), None) for turn, index in order)
        await self._run_cases(journal, cases, facts_of_bench)

    def _document(self, journal: Journal) -> Document:
        return suite_document(journal.name, journal.plan, journal.rows)


def _job(plan: Document, index: int, turn: int) -> TrainSpec:
    return TrainSpec(
        workload=plan["workloads"][index],
        policies=tuple(plan["policies"]),
        epochs=plan["epochs"],
        seed=plan["seed"] + turn,
        devices=plan["devices"],
        is_shared=plan["is_shared"],
        is_bench=True,
    )
