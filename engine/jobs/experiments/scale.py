"""The verb ``scale``: trains on growing sets of devices, one run after another, and keeps a journal of what came of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ...advisor.predict import Candidate, predict
from ...errors import PlanImpossible, UsageError
from ...events import Event, Progress, RunPlanned
from ...experiments.journal import Journal, begin, resume
from ...experiments.scale import Rated, case_order, facts_of, given_sets, growing_sets, scale_document, weak_batch
from ...inventory.link_presets import LINK_PRESETS
from ...inventory.nodeset import parse_device_set
from ...profiles.profile import Profile
from ...protocol.json_files import write_json
from ...reports.document_type import Document
from ...specs import LinkSpec, TrainSpec
from ...workloads import WORKLOADS
from ..launch.job import JobLauncher
from ..launch.profile import profiling_spec
from ..launch.session import LaunchSession

RESULT_FILE = "result.json"

Attach = Callable[[str], Awaitable[Document | None]]
"""Follows a run that has begun to its result; None: no node knows it."""


@dataclass(frozen=True, slots=True)
class ScaleRequest:
    """What a person asked for."""

    job: TrainSpec = field(default_factory=TrainSpec)
    """Workload, policy, batch, epochs, seed and devices of every run."""
    order: str = "fastest"
    sets: str | None = None
    """Sets of devices as given; None: growing ones."""
    is_weak: bool = False
    """Whether the global batch grows with the devices."""
    links: tuple[str, ...] = ()
    """Names of emulated networks, one after another; empty: the network there is."""
    repeats: int = 3


class Scaling:
    """One scaling experiment on the machines of a session."""

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
        return f"paceline scale --resume {self._name} goes on with the experiment" if self._name else ""

    async def begin(self, directory: Path, request: ScaleRequest) -> Document:
        """Plan an experiment, write its plan, and run it. Raises UsageError where the name has another plan."""
        plan = await self._plan(request)
        return await self._run(begin(directory, "scale", plan))

    async def resume(self, directory: Path) -> Document:
        """Go on with an experiment that was interrupted, by the plan it began with."""
        return await self._run(resume(directory, "scale"))

    async def _plan(self, request: ScaleRequest) -> Document:
        """The plan of the experiment: sets of devices, their rates, batches and predictions, for every network."""
        job, links = request.job, self._links(request.links)
        profiles = [await self._launcher_over(link).profiles.load_or_measure(profiling_spec(job)) for link in links.values()]
        rated = _rated(profiles[0], job.devices)
        known = [device.name for device in rated]
        sets = growing_sets(rated, request.order) if request.sets is None else given_sets(request.sets, known, _expander(known))
        rates = {device.name: device.rate for device in rated}
        sums = [sum(rates[name] for name in names) for names in sets]
        base = job.global_batch_size or WORKLOADS[job.workload].global_batch_size
        batches = [weak_batch(base, rate, sums[0]) if request.is_weak else base for rate in sums]
        return {
            "workload": job.workload,
            "policy": job.policies[0],
            "is_weak": request.is_weak,
            "is_emulated": any(node.devices for node in self._session.inventory.nodes),
            "is_network_emulated": bool(request.links) or self._session.inventory.link is not None,
            "repeats": request.repeats,
            "epochs": job.epochs,
            "seed": job.seed,
            "compression": job.compression,
            "precision": job.precision,
            "csv": job.csv,
            "is_shared": job.is_shared,
            "links": [None if link is None else {"name": name, **asdict(link)} for name, link in links.items()],
            "sets": [
                {
                    "devices": list(names),
                    "rate": rate,
                    "global_batch_size": batch,
                    "predicted": {
                        name: _predicted(profile, names, batch, job)
                        for (name, _), profile in zip(links.items(), profiles, strict=True)
                    },
                }
                for names, rate, batch in zip(sets, sums, batches, strict=True)
            ],
        }

    def _links(self, names: Sequence[str]) -> dict[str, LinkSpec | None]:
        """The networks of the experiment by name; the one that there is has the name ""."""
        if not names:
            return {"": None}
        if any(not node.devices for node in self._session.inventory.nodes):
            raise UsageError("--links emulates networks between embedded nodes only", hint="leave it out on machines of your own")
        if unknown := [name for name in names if name not in LINK_PRESETS]:
            raise UsageError(f"there is no network {unknown[0]!r}", hint=f"known: {', '.join(LINK_PRESETS)}")
        return {name: LINK_PRESETS[name] for name in names}

    def _launcher_over(self, link: LinkSpec | None, publish: Callable[[Event], None] | None = None) -> JobLauncher:
        inventory = self._session.inventory
        session = replace(self._session, inventory=inventory if link is None else replace(inventory, link=link))
        self._launcher = JobLauncher(session if publish is None else replace(session, publish=publish))
        return self._launcher

    async def _run(self, journal: Journal) -> Document:
        """Run the cases that have no good row yet; returns the document, which the directory of the experiment keeps too."""
        self._name, plan = journal.name, journal.plan
        order = case_order(len(plan["sets"]), len(plan["links"]), plan["repeats"])
        for case, (turn, link, index) in enumerate(order):
            if journal.rows.get(case, {}).get("state") == "done":
                continue
            names = ",".join(plan["sets"][index]["devices"])
            round_text = f", round {turn + 1}" if plan["repeats"] > 1 else ""
            network = plan["links"][link]
            over = f" over {network['name']}" if network else ""
            self._session.publish(Progress(phase=f"{journal.name}: run {case + 1} of {len(order)}{round_text}, {names}{over}"))
            result = None
            if case in journal.run_ids and case not in journal.rows:
                result = await self._attach(journal.run_ids[case])
            if result is None or result.get("state") != "done":
                result = await self._launch(journal, case, _job(plan, index, turn), network)
            journal.note_row(case, facts_of(result))
        document = scale_document(journal.name, plan, journal.rows)
        write_json(journal.directory / RESULT_FILE, {"schema": 1, **document})
        return document | {"directory": str(journal.directory)}

    async def _launch(self, journal: Journal, case: int, job: TrainSpec, network: Document | None) -> Document:
        link = None if network is None else LinkSpec(**{key: network[key] for key in ("latency", "bandwidth", "jitter")})

        def publish(event: Event) -> None:
            if isinstance(event, RunPlanned):
                journal.note_run(case, event.run_id)
            self._session.publish(event)

        return await self._launcher_over(link, publish).run(job)


def _job(plan: Document, index: int, turn: int) -> TrainSpec:
    """The job of one case. A round adds its number to the seed, as in ``bench``."""
    one = plan["sets"][index]
    return TrainSpec(
        workload=plan["workload"],
        policies=(plan["policy"],),
        epochs=plan["epochs"],
        global_batch_size=one["global_batch_size"],
        seed=plan["seed"] + turn,
        csv=plan["csv"],
        devices=",".join(one["devices"]),
        compression=plan["compression"],
        precision=plan["precision"],
        is_shared=plan["is_shared"],
        checkpoint_every="never",
    )


def _rated(profile: Profile, devices: str) -> list[Rated]:
    """The timed devices of a set, by the profile."""
    timed = [
        Rated("{}:{}".format(*device.key), device.samples_per_second) for device in profile.devices if device.samples_per_second
    ]
    if devices == "all":
        return timed
    names = set(_expander([device.name for device in timed])(devices))
    return [device for device in timed if device.name in names]


def _expander(known: Sequence[str]) -> Callable[[str], list[str]]:
    """Turns a set such as ``lab[1-2],atlas:0`` into names ``node:index``; a node stands for all its devices."""

    def expand(text: str) -> list[str]:
        chosen: list[str] = []
        for nodes, index in parse_device_set(text):
            for node in sorted(nodes):
                own = [name for name in known if name.rpartition(":")[0] == node and index in (None, name.rpartition(":")[2])]
                chosen += own or [f"{node}:{index or 0}"]
        return list(dict.fromkeys(chosen))

    return expand


def _predicted(profile: Profile, names: Sequence[str], batch: int, job: TrainSpec) -> float | None:
    """Samples a second by the advisor; None where it cannot tell."""
    places = {"{}:{}".format(*device.key): place for place, device in enumerate(profile.devices)}
    if any(name not in places for name in names):
        return None
    size = min(batch, profile.samples or batch)
    candidate = Candidate(tuple(sorted(places[name] for name in names)), size, job.policies[0], job.compression)
    try:
        return predict(profile, candidate).samples_per_second
    except PlanImpossible:
        return None
