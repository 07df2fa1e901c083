"""Results as TensorBoard event files."""

from __future__ import annotations

from pathlib import Path

import pytest
from paceline.engine.errors import UsageError
from paceline.engine.publishing.exports.tensorboard import cases_of, write_tensorboard

from tests.engine.publishing.test_report import sources


def test_every_epoch_and_every_case_has_its_scalars() -> None:
    bench, train, *_ = sources()
    cases = dict(cases_of(bench))
    assert list(cases) == [f"{bench.name}/{case['policy']}" for case in bench.document["cases"]]
    for case in bench.document["cases"]:
        scalars = cases[f"{bench.name}/{case['policy']}"]
        losses = [(step, value) for tag, step, value in scalars if tag == "loss/validation"]
        assert losses == [(epoch["epoch"], epoch["loss"]) for epoch in case["epochs"]]
        assert ("result/samples_per_second", case["epochs"][-1]["epoch"], case["samples_per_second"]) in scalars
    assert [name for name, _ in cases_of(train)] == [train.name]


def test_a_scaling_experiment_has_nothing_that_tensorboard_shows(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with pytest.raises(UsageError, match="no result here has epochs"):
        write_tensorboard(sources()[3:4], tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow  # tensorboard takes seconds to import
def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    one = sources()[1]
    (written,) = write_tensorboard([one], tmp_path)
    read = EventAccumulator(str(written))
    read.Reload()
    losses = [(point.step, point.value) for point in read.Scalars("loss/validation")]
    assert losses == [(epoch["epoch"], pytest.approx(epoch["loss"])) for epoch in one.document["epochs"]]
