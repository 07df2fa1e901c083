"""Results as runs of MLflow and of Weights & Biases: every case, every epoch; a missing package is named with its command."""

from __future__ import annotations

import builtins
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from paceline.engine.errors import UsageError
from paceline.engine.publishing.exports.mlflow_runs import _mlflow_name, write_mlflow
from paceline.engine.publishing.exports.tracked_runs import tracked_runs
from paceline.engine.publishing.exports.wandb_runs import _by_step, write_wandb
from paceline.engine.reports.document_type import document_type

from tests.engine.publishing.test_report import sources


def test_every_case_is_a_run_and_every_epoch_a_step() -> None:
    bench, train, *_ = sources()
    runs = {run.name: run for run in tracked_runs([bench, train])}
    assert list(runs) == [*(f"{bench.name}/{case['policy']}" for case in bench.document["cases"]), train.name]
    for case in bench.document["cases"]:
        run = runs[f"{bench.name}/{case['policy']}"]
        assert run.params["policy"] == case["policy"]
        assert [value for name, _, value in run.scalars if name == "loss/validation"] == [one["loss"] for one in case["epochs"]]
        assert run.tags["paceline.source"] == bench.path


def test_every_trial_of_a_search_is_a_run() -> None:
    searches = [one for one in sources() if document_type(one.document) == "search"]
    for one in searches:
        runs = tracked_runs([one])
        assert len(runs) == len(one.document["trials"])
        for run, trial in zip(runs, one.document["trials"], strict=True):
            values = [value for name, _, value in run.scalars if name == one.document["metric"]]
            assert values == ([] if trial["value"] is None else [trial["value"]])
    assert searches


@pytest.mark.parametrize(
    ("write", "package", "command"), [(write_mlflow, "mlflow", "mlflow-skinny"), (write_wandb, "wandb", "wandb")]
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    write: Callable[..., Any], package: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def absent(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(UsageError, match=f"need {package}") as refused:
        write(sources()[:1], tmp_path / "out")
    assert f"pip install {package}" in str(refused.value.hint)
    assert not (tmp_path / "out").exists()


def test_names_are_those_that_mlflow_takes_and_steps_ascend(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(50):
        name = "".join(rng.choice("ab_% &#{}\\~^<é/") for _ in range(rng.randint(0, 300)))
        assert 0 < len(_mlflow_name(name)) <= 250
        assert not set(_mlflow_name(name)) & set("%&#{}\\~^<")
        scalars = [(f"m{rng.randint(0, 2)}", rng.randint(0, 5), rng.random()) for _ in range(rng.randint(0, 9))]
        steps = list(_by_step(scalars))
        assert steps == sorted(set(steps))


def test_scalings_have_nothing_for_a_tracker() -> None:
    with pytest.raises(UsageError, match="no result here"):
        tracked_runs([one for one in sources() if document_type(one.document) == "scale"])


@pytest.mark.slow
def test_mlflow_reads_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    bench = sources()[0]
    _, (sentence,) = write_mlflow([bench], tmp_path)
    client = MlflowClient(tracking_uri=sentence.rpartition(" ")[2])
    found = client.search_runs([client.get_experiment_by_name("paceline").experiment_id])
    assert len(found) == len(bench.document["cases"])
    by_name = {run.info.run_name: run for run in found}
    for case in bench.document["cases"]:
        run = by_name[f"{bench.name}/{case['policy']}"]
        history = client.get_metric_history(run.info.run_id, "loss/validation")
        assert [(point.step, point.value) for point in history] == [(one["epoch"], one["loss"]) for one in case["epochs"]]
        assert run.data.params["policy"] == case["policy"]


@pytest.mark.slow
def test_wandb_writes_offline_runs(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    bench = sources()[0]
    written, (sentence,) = write_wandb([bench], tmp_path)
    assert len(written) == len(bench.document["cases"])
    assert all(list(path.glob("*.wandb")) for path in written)
    assert "wandb sync" in sentence
