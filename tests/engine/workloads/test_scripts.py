"""Every model on every data set that fits, as its script runs: two ranks whose shares change in every step are one process."""

from __future__ import annotations

import json
import os
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from paceline.engine.protocol.data_names import DATA_VARIABLE
from paceline.engine.script import loader as loaders
from paceline.engine.script import process
from paceline.engine.workloads.datasets import DATASETS
from paceline.engine.workloads.models import MODELS
from paceline.engine.workloads.pairs import PAIRS, choose

from tests.support.places import CHECKOUT
from tests.support.runs.changing_shares import ChangingShares
from tests.support.runs.gloo_ranks import run_on_ranks
from tests.support.runs.small_arrays import LENGTH, write_arrays

TINY = {"width": 4, "hidden_dim": 16, "layers": 1, "heads": 2, "dropout": 0, "length": LENGTH, "beam": 2}
MEASURED = ("training_time", "samples_per_sec", "tokens_per_sec", "peak_memory", "rank", "world_size", "samples", "tokens")
"""What differs between two runs, and between ranks."""
EPOCHS, BATCH = 2, 8


def train(pair: str, data: Path, place: Path) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
    """Run the script of a pair in this process; its metrics of all epochs and its best weights."""
    model, dataset = PAIRS[pair]
    sizes = {name: value for name, value in TINY.items() if name in MODELS[model].sizes}
    words = choose(
        model, dataset, {"epochs": 1 if model == "resnet50" else EPOCHS, "batch": BATCH, **sizes, "lr": 0.001, "clip": 0.1}
    ).arguments
    place.mkdir(parents=True, exist_ok=True)
    os.environ[DATA_VARIABLE] = str(data)
    sys.argv = [model, *words, "--results", str(place)]
    try:
        runpy.run_path(str(CHECKOUT / "engine/script/examples" / MODELS[model].script), run_name="__main__")
    finally:
        process.closed()
    rank = int(os.environ.get("RANK", "0"))
    rows = [json.loads(path.read_text()) for path in sorted(place.glob(f"rank{rank}_results_epoch*.json"))]
    weights = torch.load(place / "best.pt", weights_only=True)["parts"]["model"] if rank == 0 else {}
    return [{name: value for name, value in row.items() if name not in MEASURED} for row in rows], weights


def changing(policy: Any, size: int, ranks: int, low: int, *rest: Any) -> ChangingShares:
    shares = ChangingShares(size, ranks, least=low)
    shares.low = low
    return shares


def train_all(rank: int, world: int) -> dict[str, Any]:
    place = Path(os.environ["PACELINE_TEST_PLACE"])
    os.environ["RANK"] = str(rank)
    torch.set_default_dtype(torch.float64)
    if world > 1:
        loaders.Balance = changing  # type: ignore[assignment, attr-defined]  # replaced for this test
    return {pair: train(pair, place / "data", place / f"{world}" / pair) for pair in PAIRS}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_pair_trains_on_two_unlike_ranks_as_in_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in DATASETS:
        write_arrays(name, tmp_path / "data")
    monkeypatch.setenv("PACELINE_TEST_PLACE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "ranks").mkdir()
    (tmp_path / "alone").mkdir()
    both = run_on_ranks(train_all, tmp_path / "ranks", 2)
    (alone,) = run_on_ranks(train_all, tmp_path / "alone", 1)
    for pair, (metrics, weights) in alone.items():
        (ours, own), (theirs, _) = both[0][pair], both[1][pair]
        assert ours == theirs, pair
        if pair.startswith("resnet50"):  # batch normalisation counts the samples of each device
            assert all(torch.isfinite(value).all() for value in own.values()), pair
            continue
        assert len(ours) == EPOCHS
        for mine, single in zip(ours, metrics, strict=True):
            assert mine == pytest.approx(single, rel=1e-12, abs=1e-12), pair
        for name, value in weights.items():
            assert float((own[name] - value).norm()) <= 1e-12 * max(1.0, float(value.norm())), f"{pair}: {name}"
