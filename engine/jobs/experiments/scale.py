"""The verb ``scale``: trains on growing sets of devices, one run after another, and keeps a journal of what came of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

from ...advisor.predict import Candidate, predict
from ...errors import PlanImpossible, UsageError
from ...experiments.journal import Journal
from ...experiments.scale import Rated, case_order, facts_of, given_sets, growing_sets, scale_document, weak_batch
from ...inventory.link_presets import LINK_PRESETS
from ...inventory.nodeset import parse_device_set
from ...profiles.profile import Profile
from ...reports.document_type import Document
from ...specs import LinkSpec, TrainSpec
from ...workloads import WORKLOADS
from ..launch.profile import profiling_spec
from .experiment import Experiment


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


class Scaling(Experiment[ScaleRequest]):
    """One scaling experiment on the machines of a session."""

    kind = "scale"

    async def _plan(self, request: ScaleRequest) -> Document:
        """Sets of devices, their rates, batches and predictions, for every network."""
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

    async def _run(self, journal: Journal) -> None:
        plan = journal.plan
        order = case_order(len(plan["sets"]), len(plan["links"]), plan["repeats"])
        await self._run_cases(journal, (_case(plan, *place) for place in order), facts_of)

    def _document(self, journal: Journal) -> Document:
        return scale_document(journal.name, journal.plan, journal.rows)


def _case(plan: Document, turn: int, link: int, index: int) -> tuple[str, TrainSpec, LinkSpec | None]:
    """One case in words, its job and its network."""
    network = plan["links"][link]
    over = f" over {network['name']}" if network else ""
    words = f"round {turn + 1}, {','.join(plan['sets'][index]['devices'])}{over}"
    declared = None if network is None else LinkSpec(**{key: network[key] for key in ("latency", "bandwidth", "jitter")})
    return words, _job(plan, index, turn), declared


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
