"""A library script under Paceline writes what it keeps between two steps, and another run goes on with the next batch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from paceline.engine.errors import DataRefused
from paceline.engine.events import CheckpointWritten, RankEvent
from paceline.engine.protocol.checkpoints import list_checkpoints
from paceline.engine.script import process, run
from paceline.engine.script.checkpoint import RunCheckpoints
from paceline.engine.training.checkpoints.writer import Checkpointer, load_checkpoint
from torch import nn
from torch.distributed import HashStore  # type: ignore[attr-defined]  # torch re-exports it implicitly
from torch.utils.data import IterableDataset, TensorDataset

from tests.support.installed import needs

pytestmark = needs("torch")

EPOCHS, BATCH, ROWS = 3, 8, 50


class Stream(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
    """The same rows in the same order, without a length."""

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        data = rows()
        yield from ((data[place][0], data[place][1]) for place in range(len(data)))


def rows() -> TensorDataset:
    generator = torch.Generator().manual_seed(3)
    return TensorDataset(torch.randn(ROWS, 5, generator=generator), torch.randn(ROWS, 1, generator=generator))


@contextlib.contextmanager
def group() -> Iterator[None]:
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        process.closed()
        dist.destroy_process_group()


def train(checkpoints: RunCheckpoints | None, stop_at: int | None = None, is_stream: bool = False) -> list[float]:
    """The weights after all epochs; ``stop_at``: steps after which the run is cut off."""
    with group():
        started = run.init(seed=5)
        started._session.checkpoints = checkpoints
        model = started.wrap(nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 1)).double())
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 5)
        loader = started.loader(Stream() if is_stream else rows(), BATCH, shuffle=not is_stream, training=True)
        started.keep(model=model, optimizer=optimizer, scheduler=scheduler)
        steps = 0
        for _ in started.epochs(EPOCHS):
            for x, y in loader:
                if steps == stop_at:
                    return []
                nn.functional.mse_loss(model(x.double()), y.double()).backward()
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
                steps += 1
        return [float(value) for weight in model.parameters() for value in weight.detach().flatten()]


def checkpoints_in(place: Path, events: list[RankEvent], resumed: dict[str, object] | None = None) -> RunCheckpoints:
    return RunCheckpoints(Checkpointer(place, events.append, every_steps=1, keep=99), resumed, workload="train.py", case="hybrid")


@pytest.mark.parametrize("is_stream", [False, True])
def test_every_checkpoint_of_a_run_leads_to_the_weights_of_one_that_was_never_cut(tmp_path: Path, is_stream: bool) -> None:
    whole = train(None, is_stream=is_stream)
    events: list[RankEvent] = []
    writer = checkpoints_in(tmp_path, events)
    assert train(writer, stop_at=17, is_stream=is_stream) == []
    writer.close()
    infos = list_checkpoints(tmp_path)
    assert infos[-1].step == 1
    assert {7, 14} < {info.step for info in infos}  # 7 steps an epoch
    assert all(isinstance(event, CheckpointWritten) and not event.error for event in events)
    for info in infos[:: max(1, len(infos) // 2)]:
        state = load_checkpoint(tmp_path / info.name)
        assert state["place"]["epoch"] * 7 * BATCH + state["place"]["offset"] <= info.step * BATCH
        resumed = train(RunCheckpoints(None, state, workload="train.py", case="hybrid"), is_stream=is_stream)
        assert resumed == pytest.approx(whole, rel=1e-12, abs=1e-12)


def test_a_checkpoint_that_lacks_a_part_or_has_another_shape_is_refused(tmp_path: Path) -> None:
    writer = checkpoints_in(tmp_path, [])
    train(writer, stop_at=3)
    writer.close()
    state = load_checkpoint(tmp_path / list_checkpoints(tmp_path)[0].name)
    without = {**state, "parts": {name: part for name, part in state["parts"].items() if name != "optimizer"}}
    with pytest.raises(DataRefused, match="holds no optimizer"):
        train(RunCheckpoints(None, without, workload="train.py", case="hybrid"))
    state["parts"]["model"] = nn.Linear(2, 2).state_dict()
    with pytest.raises(DataRefused, match="model does not take what"):
        train(RunCheckpoints(None, state, workload="train.py", case="hybrid"))
