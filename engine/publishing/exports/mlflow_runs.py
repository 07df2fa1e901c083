"""Results in MLflow: a run a case with its parameters, and its metrics by epoch.

They go into a store below the directory: a database where SQLAlchemy is there, else files. MLFLOW_TRACKING_URI names another.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ...errors import StorageFailed, UsageError
from ..result_file import ResultFile
from .tracked_runs import EXPERIMENT, tracked_runs


def write_mlflow(sources: Sequence[ResultFile], directory: Path) -> tuple[list[Path], list[str]]:
    """Write runs of MLflow; returns the files of the store and how to look at them. Raises UsageError, StorageFailed."""
    runs = tracked_runs(sources)
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.tracking import MlflowClient
    except ImportError:
        raise UsageError("runs of MLflow need mlflow", hint="pip install mlflow (or mlflow-skinny)") from None
    directory.mkdir(parents=True, exist_ok=True)
    asked = os.environ.get("MLFLOW_TRACKING_URI")
    uri = asked or _mlflow_store(directory.resolve())
    try:
        client = MlflowClient(tracking_uri=uri)
        known = client.get_experiment_by_name(EXPERIMENT)
        experiment = known.experiment_id if known is not None else client.create_experiment(EXPERIMENT)
        for run in runs:
            made = client.create_run(experiment, run_name=run.name)
            metrics = [Metric(_mlflow_name(name), value, 0, step) for name, step, value in run.scalars]
            params = [Param(_mlflow_name(name), value[:500]) for name, value in run.params.items()]
            tags = [RunTag(name, value) for name, value in run.tags.items()]
            for start in range(0, max(len(metrics), 1), 500):  # MLflow takes a thousand entities at once
                client.log_batch(
                    made.info.run_id, metrics[start : start + 500], params if not start else (), tags if not start else ()
                )
            client.set_terminated(made.info.run_id, "FINISHED")
    except OSError as error:
        raise StorageFailed(f"cannot write {directory}: {error.strerror or error}") from None
    except Exception as error:  # its own classes differ between versions, and a server may refuse anything
        raise UsageError(f"MLflow at {uri} refused: {' '.join(str(error).split())[:200]}") from None
    written = [] if asked else sorted(directory.glob("mlflow.db")) or [directory / "mlruns"]
    return written, [f"mlflow ui --backend-store-uri {uri}" if not asked else f"sent to {asked}"]


def _mlflow_store(directory: Path) -> str:
    try:
        import sqlalchemy  # noqa: F401  # only whether it is there: mlflow-skinny comes without a database
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # noqa: F401
    except ImportError:
        return (directory / "mlruns").as_uri()
    return f"sqlite:///{directory / 'mlflow.db'}"


def _mlflow_name(name: str) -> str:
    """A name that MLflow takes: letters, digits and ``_-. /:``."""
    return "".join(letter if letter.isalnum() or letter in "_-. /" else "_" for letter in name)[:250] or "_"
