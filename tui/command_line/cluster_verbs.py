"""The verbs for clusters: ``export``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from paceline.engine.kubernetes.job_objects import JOB_OBJECTS
from paceline.engine.kubernetes.pod_template import ClusterSettings
from paceline.engine.reports.document_type import Document

from .arguments import JOB_FILE, Argument, job_arguments, positive

if TYPE_CHECKING:
    from paceline.engine.control import Control

_SETTINGS = ClusterSettings()
CLUSTER_ARGUMENTS = (
    Argument("--namespace", f"of the cluster (default: {_SETTINGS.namespace})", "NAME", default=_SETTINGS.namespace),
    Argument("--claim", f"of the volume that all pods write (default: {_SETTINGS.claim})", "NAME", default=_SETTINGS.claim),
    Argument("--storage", f"size of a new claim (default: {_SETTINGS.storage})", "SIZE", default=_SETTINGS.storage),
    Argument("--image", f"of the pods, with torch and numpy (default: {_SETTINGS.image})", "IMAGE", default=_SETTINGS.image),
)
EXPORT_ARGUMENTS = (
    JOB_FILE,
    *job_arguments("plan"),
    Argument(
        "--to", "kubernetes (default) or slurm", "TARGET", default="kubernetes", choices=("kubernetes", "slurm"), is_strict=True
    ),
    Argument(
        "--as",
        f"one of {', '.join(JOB_OBJECTS)} (default: by the devices)",
        "KIND",
        dest="kind",
        choices=tuple(JOB_OBJECTS),
        is_strict=True,
    ),
    Argument("--out", "directory for a kustomize base and overlays instead of one stream", "DIR", Path),
    *CLUSTER_ARGUMENTS,
    Argument(
        "--runtime", f"ClusterTrainingRuntime of a TrainJob (default: {_SETTINGS.runtime})", "NAME", default=_SETTINGS.runtime
    ),
    Argument("--grid", "a search: values of a parameter, such as lr=0.1,0.01", "P=A,B", is_repeatable=True),
    Argument("--random", "of a search: draw so many combinations", "N", positive),
    Argument("--metric", "of a search with a script: what trials are judged by", "NAME"),
)


async def export(control: Control, args: argparse.Namespace) -> Document:
    """The verb ``export``."""
    from paceline.engine.jobs.experiments.search import SearchRequest
    from paceline.engine.jobs.export.export import ExportRequest
    from paceline.engine.jobs.launch.job_options import train_spec

    cluster = ClusterSettings(args.namespace, args.claim, args.image, args.storage, args.runtime)
    search = None
    if args.grid or args.random is not None or args.kind == "job":
        names = ("script", "random", "metric", "epochs", "devices", "seed")
        pair = {name: value for name in ("model", "dataset") if (value := getattr(args, name)) is not None}
        search = SearchRequest(**{name: getattr(args, name) for name in names}, **pair, grid=tuple(args.grid), is_shared=args.share)
    request = ExportRequest(args.to, args.kind, args.out, cluster, search)
    return await control.export(train_spec("plan", vars(args)), request)


SETUP_ARGUMENTS = (
    JOB_FILE,
    Argument("--kubernetes", "prepare a cluster: namespace, claim, operator, our modules, the data of a job"),
    Argument("--context", "of the kubeconfig, where nodes.toml has no cluster (default: the current one)", "NAME"),
    *CLUSTER_ARGUMENTS,
    *job_arguments("plan"),
)


async def setup(control: Control, args: argparse.Namespace) -> Document:
    """The verb ``setup``."""
    from paceline.engine.errors import UsageError
    from paceline.engine.jobs.kubernetes.run import ClusterAccess
    from paceline.engine.jobs.launch.job_options import train_spec

    if not args.kubernetes:
        raise UsageError("setup prepares a cluster", hint="paceline setup --kubernetes; doctor and status say what a node lacks")
    settings = ClusterSettings(args.namespace, args.claim, args.image, args.storage)
    return await control.set_up_cluster(train_spec("plan", vars(args)), ClusterAccess("kubernetes", settings, args.context))


def setup_text(document: Document) -> str:
    """One line a step."""
    lines = [f"{step['state']:<9}{step['what']}" + (f" ({step['hint']})" if step["hint"] else "") for step in document["steps"]]
    return "\n".join((f"cluster {document['cluster']}, namespace {document['namespace']}", *lines))


def export_text(document: Document) -> str:
    """The stream, or what was written where."""
    if document["out"] is None:
        return str(document["text"]).rstrip("\n")
    base = f"{document['out']}/base"
    return f"{document['as']} of run {document['run_id']} in {len(document['files'])} files: kubectl apply -k {base}"
