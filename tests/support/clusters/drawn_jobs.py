"""Jobs and mutants of their manifests, drawn at random from a seeded generator."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

from paceline.engine.jobs.launch.planning import make_case
from paceline.engine.kubernetes.job_objects import JOB_OBJECTS
from paceline.engine.kubernetes.pod_template import ClusterSettings
from paceline.engine.plan import CheckpointPlan, DataPlan, Emulation, NodePlan, Plan, RankPlan, ScriptPlan
from paceline.engine.specs import FaultSpec, TrainSpec, TrialSpec
from paceline.engine.states import POLICIES, DeviceKind

Object = dict[str, Any]
GPUS = ("NVIDIA GeForce RTX 3060", "NVIDIA A100-SXM4-80GB", "NVIDIA GeForce GTX 1650", "Tesla T4", "NVIDIA H200", "RTX 3050")
EMULATED = (*GPUS, "Karte Ä/β", "x" * 90, "RTX 3060 (lab 2)", "0", "---")
NODE_NAMES = ("lab{}", "Atlas.{}", "gpu_{}", "{}", "node-{}", "a.very.long.name.of.a.machine.in.the.cellar.{}")
FREE_FORM = ("labels", "matchLabels", "data", "requests", "limits", "nodeSelector")
"""Maps whose keys a person chooses: another key there is no fault."""


def draw_plan(rng: random.Random, kind: str) -> Plan:
    """A plan that suits a kind of job, with one node to eight."""
    is_alike = kind == "trainjob" or rng.random() < 0.3
    is_cuda = rng.random() < 0.5
    names = GPUS if is_cuda else EMULATED
    count = rng.randint(2 if kind == "pytorchjob" else 1, 8)
    pattern = rng.choice(NODE_NAMES)
    shape = (rng.choice(names), rng.randint(1, 4))
    nodes: list[NodePlan] = []
    ranks: list[RankPlan] = []
    for number in range(count):
        device, size = shape if is_alike or kind == "pytorchjob" else (rng.choice(names), rng.randint(1, 4))
        first = len(ranks)
        nodes.append(
            NodePlan(pattern.format(number), number, tuple(range(first, first + size)), f"10.0.0.{number}", "eth0", "~/py")
        )
        for local in range(size):
            ranks.append(_rank(rng, first + local, nodes[-1], local, device, "cuda" if is_cuda else "emulated"))
    cases = tuple(
        make_case(policy, repeat) for repeat in range(rng.randint(1, 3)) for policy in rng.sample(POLICIES, rng.randint(1, 4))
    )
    digest = f"{rng.getrandbits(256):064x}"
    script = None
    if kind == "job" or rng.random() < 0.3:
        trials = (
            tuple(TrialSpec(number, ("--lr", str(rng.random()))) for number in range(rng.randint(1, 40))) if kind == "job" else ()
        )
        words = tuple(rng.choice(("--lr", "0.1", "{data}", "a b", "'", "é", "yes", "0o7", "")) for _ in range(rng.randint(0, 5)))
        script = ScriptPlan(
            "train.py", words, digest[:16], trials=trials, data=(DataPlan(digest[:32], "digits", 9, "0", name="digits"),)
        )
    return Plan(
        run_id=f"2026{rng.randint(1, 12):02}{rng.randint(1, 28):02}-{rng.randint(0, 2359):04}-{rng.getrandbits(30):06x}"[:20],
        workload=rng.choice(("digits-cnn", "sp500-mlp", "my script.py")),
        cases=cases,
        nodes=tuple(nodes),
        ranks=tuple(ranks),
        data=DataPlan(digest, "sklearn", rng.randint(1, 10**6), digest, training_rows=rng.randint(64, 10**6)),
        epochs=rng.randint(1, 9),
        global_batch_size=rng.randint(len(ranks), 4096),
        seed=rng.getrandbits(63),
        checkpoints=CheckpointPlan(every_seconds=60.0),
        name=rng.choice(("", "night", "ä")),
        program="training" if script is None else "script",
        script=script,
    )


def _rank(rng: random.Random, rank: int, node: NodePlan, local: int, device: str, kind: DeviceKind) -> RankPlan:
    faults = (FaultSpec(rng.randint(0, 9), 1.5),) if rng.random() < 0.2 else ()
    emulation = Emulation(rng.uniform(1, 40), faults, noise=rng.random() / 2) if kind == "emulated" else None
    return RankPlan(rank, node.name, node.node_rank, local, local, kind, device, rng.randint(1, 80) << 30, emulation)


def draw_job(rng: random.Random) -> tuple[Plan, TrainSpec, ClusterSettings, str]:
    """A job, its cluster and the kind of its object."""
    kind = rng.choice(tuple(JOB_OBJECTS))
    settings = ClusterSettings(
        namespace=rng.choice(("paceline", "team-a", "0lab")),
        claim=rng.choice(("paceline", "data")),
        image=rng.choice(("paceline:cpu", "paceline:cuda", "lab/torch:2.6.0-cuda12")),
        storage=rng.choice(("20Gi", "1Ti", "500Mi")),
        bundle=rng.choice(("", f"{rng.getrandbits(256):064x}.zip")),
    )
    return draw_plan(rng, kind), TrainSpec(seed=rng.getrandbits(63), name=rng.choice(("", "night"))), settings, kind


def draw_mutant(rng: random.Random, objects: list[Object]) -> tuple[list[Object], str]:
    """The objects with one fault, and what it is."""
    mutant = copy.deepcopy(objects)
    while (what := rng.choice(_MUTATIONS)(rng, mutant)) is None:
        mutant = copy.deepcopy(objects)
    return mutant, what


def _places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[Any, Any, tuple[str | int, ...]]]:
    """Every entry of nested maps and lists: the map or list, its key, the path of the entry."""
    entries = list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    found = [(value, key, (*path, key)) for key, _ in entries]
    for key, item in entries:
        found += _places(item, (*path, key))
    return found


def _structural(objects: list[Object]) -> list[tuple[Any, Any, tuple[str | int, ...]]]:
    """Entries whose key is a field of the API."""
    return [
        place for place in _places(objects) if isinstance(place[0], dict) and not any(part in FREE_FORM for part in place[2][:-1])
    ]


def _misspell(rng: random.Random, objects: list[Object]) -> str | None:
    """A field with a letter too many, too few, or of the other case."""
    holder, key, path = rng.choice(_structural(objects))
    wrong = rng.choice((f"{key}s", key[:-1], key.swapcase(), f"x{key}"))
    if not wrong or wrong in holder or wrong == key:
        return None
    holder[wrong] = holder.pop(key)
    return f"{'.'.join(map(str, path))} written as {wrong}"


def _retype(rng: random.Random, objects: list[Object]) -> str | None:
    """A value of another type."""
    holder, key, path = rng.choice(_structural(objects))
    value = holder[key]
    others = [one for one in ("text", 7, True, ["x"], {"x": "y"}) if type(one) is not type(value)]
    holder[key] = rng.choice(others)
    return f"{'.'.join(map(str, path))} = {holder[key]!r}"


def _drop(rng: random.Random, objects: list[Object]) -> str | None:
    """A field that nothing works without is missing."""
    needed: tuple[str, ...] = (
        "apiVersion",
        "kind",
        "metadata",
        "spec",
        "template",
        "containers",
        "image",
        "name",
        "command",
        "volumes",
        "volumeMounts",
    )
    needed += ("securityContext", "resources", "completions", "completionMode", "accessModes", "claimName", "mountPath", "trainer")
    needed += ("runtimeRef", "replicatedJobs", "pytorchReplicaSpecs", "Master", "Worker", "numNodes", "capabilities", "env")
    places = [place for place in _structural(objects) if place[1] in needed]
    holder, key, path = rng.choice(places)
    del holder[key]
    return f"no {'.'.join(map(str, path))}"


def _spoil(rng: random.Random, objects: list[Object]) -> str | None:
    """A value that no cluster takes, or that gives a pod rights."""
    wrong: dict[str, tuple[Any, ...]] = {
        "memory": ("lots", "1.5.2Gi", 8, "-1Gi"),
        "cpu": ("two", 2, ""),
        "storage": ("big", 20, "20 GiB"),
        "runAsNonRoot": (False,),
        "runAsUser": (0,),
        "allowPrivilegeEscalation": (True,),
        "privileged": (True,),
        "readOnlyRootFilesystem": (False,),
        "drop": ([], ["NET_RAW"]),
        "completionMode": ("NonIndexed", "indexed"),
        "completions": (0, 999, -1),
        "numNodes": (0, 99),
        "replicas": (0, 5),
        "namespace": ("Team_A", "other", ""),
        "name": ("-x", "a b", "Ä", ""),
        "claimName": ("another",),
        "secretName": ("another",),
        "paceline-run": ("a b", "-x-", "x" * 64),
        "image": ("", "a b:c", "UPPER CASE"),
        "operator": ("Any", "all"),
        "restartPolicy": ("Sometimes", "always"),
        "mountPath": ("relative", "tmp"),
        "plan.json": ("", "{}", "[]", "{"),
        "apiVersion": ("v2", "kubeflow.org/v2beta9"),
    }
    places = [place for place in _places(objects) if place[1] in wrong]
    holder, key, path = rng.choice(places)
    holder[key] = rng.choice(wrong[key])
    return f"{'.'.join(map(str, path))} = {holder[key]!r}"


def _leave_out(rng: random.Random, objects: list[Object]) -> str | None:
    """An object that others name is missing."""
    kinds = [one["kind"] for one in objects if one["kind"] not in ("NetworkPolicy",)]
    kind = rng.choice(kinds)
    if kind == objects[-1]["kind"]:
        return None
    objects[:] = [one for one in objects if one["kind"] != kind]
    return f"no {kind}"


_MUTATIONS: tuple[Callable[[random.Random, list[Object]], str | None], ...] = (
    _misspell,
    _misspell,
    _retype,
    _retype,
    _drop,
    _spoil,
    _spoil,
    _leave_out,
)
