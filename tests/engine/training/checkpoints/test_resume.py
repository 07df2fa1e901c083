"""A training that goes on from a checkpoint with other ranks is the training that was never interrupted: real gloo, float64."""

from __future__ import annotations

import itertools
import random
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from paceline.engine.errors import DataRefused
from paceline.engine.training.checkpoints.resume import checkpoint_writers, resumed_place
from paceline.engine.training.checkpoints.writer import load_checkpoint, write_checkpoint
from paceline.engine.training.data import Split
from paceline.engine.training.models import build_model
from paceline.engine.training.shares.sampler import SamplerState
from paceline.engine.training.shares.step_stats import Replica
from paceline.engine.training.tasks import Task
from paceline.engine.training.timing.timers import CpuTimer
from paceline.engine.training.trainer import Trainer, TrainerConfig, build_trainer
from torch.distributed import HashStore  # type: ignore[attr-defined]  # torch re-exports it implicitly

from tests.support.runs.gloo_ranks import flat, start
from tests.support.runs.training_lab import make_plan

SAMPLES, BATCH, SEED = 100, 24, 5
LEGS = (4, 2, 3, 1)
"""Number of ranks, one run after another; each ends in the middle of an epoch."""
STEPS = 3


def test_two_nodes_keep_a_copy_of_each_checkpoint_whichever_devices_are_lost(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(50):
        plan = make_plan("sp500-mlp", [[1.0] * draw.randint(1, 3) for _ in range(draw.randint(1, 4))], ["equal"], epochs=1, batch=8)
        ranks = [one.rank for one in plan.ranks]
        left = draw.sample(ranks, draw.randint(1, len(ranks)))  # in any order: whoever came back is last
        writers = checkpoint_writers(plan, left)
        assert set(writers) <= set(left)
        nodes = {plan.ranks[rank].node for rank in writers}
        assert len(writers) == len(nodes) == min(2, len({plan.ranks[rank].node for rank in left}))


def trainer(rank: int, world: int, seed: int = 0) -> Trainer:
    torch.manual_seed(seed)
    numbers = np.random.default_rng(1)
    data = Split(numbers.random((SAMPLES, 1, 8, 8)), numbers.integers(0, 10, SAMPLES))
    timer = CpuTimer()
    replica = Replica(build_model("digits-cnn").double(), timer, rank, world)
    optimizer = torch.optim.Adam(replica.model.parameters(), lr=0.01)
    return build_trainer(replica, optimizer, Task(True), data, timer, TrainerConfig(max_micro_batch=1000))


def train(mine: Trainer, state: SamplerState, steps: range, rank: int, world: int) -> SamplerState:
    """Some steps with shares that change in each of them."""
    for step in steps:
        size = state.next_size(BATCH)
        cuts = [0, *sorted(np.random.default_rng(step).integers(0, size + 1, world - 1).tolist()), size]
        mine.step(step, state, [last - first for first, last in itertools.pairwise(cuts)])
        state = state.advance(size)
    return state


def run_leg(rank: int, place: str, leg: int, world: int) -> None:
    """One rank of one run: from the checkpoint of the run before, if there is one, to a checkpoint of its own."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{place}/meet{leg}", rank=rank, world_size=world)
    mine, state, first = trainer(rank, world, seed=leg), SamplerState(SAMPLES, SEED), leg * STEPS
    if leg:
        loaded = load_checkpoint(Path(place) / f"step-{first:09d}.pt")
        mine.load(loaded, rank)
        state = resumed_place(loaded, SAMPLES, SEED, 100)
    state = train(mine, state, range(first, first + STEPS), rank, world)
    if rank == 0:
        saved = {**mine.state(), "format": 1, "place": asdict(state)}
        write_checkpoint(Path(place), saved, case="", epoch=state.epoch, step=first + STEPS)
    dist.barrier()
    dist.destroy_process_group()


def run_whole(rank: int, place: str) -> None:
    """One process that trains all steps without a break."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{place}/whole", rank=rank, world_size=1)
    mine = trainer(0, 1)
    state = train(mine, SamplerState(SAMPLES, SEED), range(len(LEGS) * STEPS), 0, 1)
    torch.save((flat(list(mine.replica.model.parameters())), asdict(state)), f"{place}/whole.pt")
    dist.destroy_process_group()


def test_four_then_two_then_three_then_one_rank_give_the_weights_of_one_process(tmp_path: Path) -> None:
    for leg, world in enumerate(LEGS):
        start(run_leg, (str(tmp_path), leg, world), world)
    start(run_whole, (str(tmp_path),), 1)
    expected, place = torch.load(tmp_path / "whole.pt")
    last = load_checkpoint(tmp_path / f"step-{len(LEGS) * STEPS:09d}.pt")
    weights = [last["model"][name] for name, _ in build_model("digits-cnn").named_parameters()]
    assert float((flat(weights) - expected).abs().max()) <= 1e-12
    assert last["place"] == place


def test_a_checkpoint_of_another_model_or_other_data_is_refused() -> None:
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        mine = trainer(0, 1)
        with pytest.raises(DataRefused, match="of another model"):
            mine.load({"model": {"weight": torch.zeros(1)}, "optimizer": {}}, 0)
        with pytest.raises(DataRefused, match="of another model"):
            mine.load({}, 0)
    finally:
        dist.destroy_process_group()
    with pytest.raises(DataRefused, match="on 100 samples; here are 99"):
        resumed_place({"place": {"samples": 100, "epoch": 0, "offset": 3}}, 99, 0, 9)
    with pytest.raises(DataRefused, match="no place in the data"):
        resumed_place({"place": {"samples": 100, "epoch": 0, "offset": 100}}, 100, 0, 9)
    with pytest.raises(DataRefused, match="trained 9 epochs of 9"):
        resumed_place({"place": {"samples": 100, "epoch": 9, "offset": 0}}, 100, 0, 9)
