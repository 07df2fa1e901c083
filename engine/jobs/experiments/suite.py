"""The verb ``suite``: benchmarks of several workloads in interleaved rounds, with a journal of what came of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from ...errors import UsageError
from ...events import Event, Progress, RunPlanned
from ...experiments.journal import Journal, begin, resume
from ...experiments.suite import QUICK_EPOCHS, check_workloads, facts_of_bench, suite_document, suite_order
from ...protocol.json_files import write_json
from ...reports.document_type import Document
from ...specs import TrainSpec
from ...states import POLICIES, Policy
from ...workloads import WORKLOADS
from ..launch.job import JobLauncher
from ..launch.session import LaunchSession
from .scale import RESULT_FILE, Attach


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


class Suite:
    """One suite on the machines of a session."""

    def __init__(self, session: LaunchSession, attach: Attach) -> None:
        self._session, self._attach = session, attach
        self._launcher: JobLauncher | None = None
        self._name = ""

    @property
    def run_id(self) -> str | None:
        """The run that goes on now; None between two."""
        return self._launcher.run_id if self._launcher else None

    @property
    def resume_hint(self) -> str:
        """How to go on after an interrupt; empty before the plan is written."""
        return f"paceline suite --resume {self._name} goes on with the experiment" if self._name else ""

    async def begin(self, directory: Path, request: SuiteRequest) -> Document:
        """Plan a suite, write its plan, and run it. Raises UsageError where the name has another plan."""
        inventory = self._session.inventory
        plan = {
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
        if request.is_quick and request.epochs is not None:
            raise UsageError("--quick has its own number of epochs", hint="leave out --quick or --epochs")
        return await self._run(begin(directory, "suite", plan))

    async def resume(self, directory: Path) -> Document:
        """Go on with a suite that was interrupted, by the plan it began with."""
        return await self._run(resume(directory, "suite"))

    async def _run(self, journal: Journal) -> Document:
        """Launch the benchmarks that have no good row yet; returns the document."""
        self._name, plan = journal.name, journal.plan
        order = suite_order(len(plan["workloads"]), plan["repeats"])
        for case, (turn, index) in enumerate(order):
            if journal.rows.get(case, {}).get("state") == "done":
                continue
            workload = plan["workloads"][index]
            self._session.publish(Progress(phase=f"{journal.name}: run {case + 1} of {len(order)}, round {turn + 1}, {workload}"))
            result = None
            if case in journal.run_ids and case not in journal.rows:
                result = await self._attach(journal.run_ids[case])
            if result is None or result.get("state") != "done":
                result = await self._launch(journal, case, workload, turn)
            journal.note_row(case, facts_of_bench(result))
        document = suite_document(journal.name, plan, journal.rows)
        write_json(journal.directory / RESULT_FILE, {"schema": 1, **document})
        return document | {"directory": str(journal.directory)}

    async def _launch(self, journal: Journal, case: int, workload: str, turn: int) -> Document:
        plan = journal.plan
        spec = TrainSpec(
            workload=workload,
            policies=tuple(plan["policies"]),
            epochs=plan["epochs"],
            seed=plan["seed"] + turn,
            devices=plan["devices"],
            is_shared=plan["is_shared"],
            is_bench=True,
        )

        def publish(event: Event) -> None:
            if isinstance(event, RunPlanned):
                journal.note_run(case, event.run_id)
            self._session.publish(event)

        self._launcher = JobLauncher(replace(self._session, publish=publish))
        return await self._launcher.run(spec)
