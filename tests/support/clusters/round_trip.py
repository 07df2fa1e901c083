"""Draws jobs, writes their manifests, and reads them back: what is invalid, and which mutants pass."""

from __future__ import annotations

import json
import random
from typing import Any

import yaml
from paceline.engine.kubernetes.manifest import kustomize_files, objects_of, unplaced
from paceline.engine.kubernetes.yaml_text import yaml_stream
from paceline.engine.plan import Plan
from paceline.engine.specs import TrainSpec
from paceline.engine.wire import from_plain

from .drawn_jobs import draw_job, draw_mutant
from .validator import faults

Object = dict[str, Any]
CERTIFICATE = {"certificate": "C", "key": "K", "authority": "A"}


def draw_objects(rng: random.Random) -> tuple[list[Object], Plan, TrainSpec]:
    """The objects of a job drawn at random, its plan and its spec. The certificates are no real ones."""
    plan, spec, settings, kind = draw_job(rng)
    certificates = {node.name: CERTIFICATE for node in plan.nodes}
    return objects_of(plan, spec, certificates, settings, kind), plan, spec


def check_jobs(rng: random.Random, count: int) -> list[str]:
    """A line for each job that is invalid or does not come back equal."""
    wrong = []
    for number in range(count):
        objects, plan, spec = draw_objects(rng)
        found = faults(objects)
        if list(yaml.safe_load_all(yaml_stream(objects))) != objects:
            found.append("it does not come back from YAML")
        files = kustomize_files(objects)
        listed = yaml.safe_load(files["base/kustomization.yaml"])["resources"]
        if [yaml.safe_load(files[f"base/{name}"]) for name in listed] != objects:
            found.append("it does not come back from the kustomize base")
        config = next(one for one in objects if one["kind"] == "ConfigMap")["data"]
        read = from_plain(Plan, json.loads(config["plan.json"])), from_plain(TrainSpec, json.loads(config["spec.json"]))
        if read != (unplaced(plan), spec):
            found.append("its plan does not come back")
        wrong += [f"job {number}: {fault}" for fault in found]
    return wrong


def check_mutants(rng: random.Random, count: int) -> list[str]:
    """A line for each mutant that nothing refuses."""
    accepted = []
    for _ in range(count):
        mutant, what = draw_mutant(rng, draw_objects(rng)[0])
        if not faults(mutant):
            accepted.append(f"accepted: {what}")
    return accepted
