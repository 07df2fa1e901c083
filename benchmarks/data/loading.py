"""What a pair's loader costs, of the training's step: ``python -m benchmarks data/loading``.

For each built-in pair: processor seconds a sample of the loader alone, with its order and its augmentation, and of the training
step of its own model on one thread. Processor time is read, so other load on the machine does not count. Data are generated in the
shape of each set. Large models take one step of few samples, and data sets of one shape share it.
"""

from __future__ import annotations

import os
import runpy
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from paceline.engine.datasets import prepare
from paceline.engine.protocol.data_names import DATA_VARIABLE
from paceline.engine.script import arrays, run
from paceline.engine.script.habits.images import Augmented
from paceline.engine.workloads.models import MODELS, Model
from paceline.engine.workloads.pairs import fitting_datasets
from torch import nn
from torch.nn import functional

from benchmarks.places import CHECKOUT
from benchmarks.table import Figure, print_figures, write_csv

LARGE = {"resnet50": 8, "bert-base": 2, "gpt2-small": 2, "agnews-large": 8}
"""Samples a step of the models that take seconds."""
LOADER_BATCHES, STEPS = 30, 3
Loss = Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]
SHAPES = {"fashion-mnist": "1x28x28"}
GENERATED = {"images": "synthetic-images", "text": "synthetic-text", "series": "synthetic-series", "translation": "synthetic-pairs"}


def measure(folder: Path) -> list[Figure]:
    """Every pair of model and data set."""
    torch.set_num_threads(1)
    started = run.init(seed=0)
    rows, figures = [], []
    steps: dict[tuple[Any, ...], float] = {}
    for model in MODELS.values():
        for dataset in fitting_datasets(model):
            loader_s, step_s = _pair(folder, started, model, dataset, steps)
            share = loader_s / (loader_s + step_s)
            rows.append([model.name, dataset, loader_s * 1e6, step_s * 1e6, share])
            told = f"{share:.1%}: {loader_s * 1e6:.1f} of {(loader_s + step_s) * 1e6:.0f} us a sample"
            figures.append(Figure(f"loader of {model.name} on {dataset}, of its step", "<= 5 %", told, share <= 0.05))
            print_figures(figures[-1:])
    write_csv("data_loading", ["model", "dataset", "loader_us", "step_us", "share"], rows)
    return figures


def _prepared(folder: Path, kind: str, dataset: str, length: int) -> Path:
    if kind == "language":
        text = folder / "text.txt"
        text.write_text("".join(f"line {number} of a play that nobody wrote\n" for number in range(20_000)))
        return prepare("text-file", text, folder / "data")[1]
    if dataset == "digits":
        return prepare("digits", None, folder / "data")[1]
    options: dict[str, Any] = {}
    if kind == "images":
        options = {
            "train": 4000,
            "validation": 10,
            "shape": SHAPES.get(dataset, "3x32x32"),
            "classes": 100 if dataset == "cifar100" else 10,
        }
    elif kind == "text":
        options = {"length": length}
    return prepare(GENERATED[kind], None, folder / "data", options=options)[1]


def _pair(folder: Path, started: Any, model: Model, dataset: str, steps: dict[tuple[Any, ...], float]) -> tuple[float, float]:
    """Processor seconds a sample: of the loader, and of the step without it."""
    batch = int(str(model.default(dataset, "batch")))
    kept, sys.argv = sys.argv, ["train.py"]
    try:
        names = runpy.run_path(str(CHECKOUT / "engine/script/examples" / model.script), run_name="benchmark")
    finally:
        sys.argv = kept
    options = names["options"]
    path = _prepared(folder, model.kind, dataset, int(getattr(options, "length", 128)))
    os.environ[DATA_VARIABLE] = str(folder / "links")
    link = folder / "links" / dataset
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(path)
    training, _ = arrays.dataset(dataset)
    if model.kind == "language":
        training = training.blocks(options.length)
    if model.default(dataset, "augment"):
        training = Augmented(training, started, 0)
    seconds, samples, first = _loader_seconds(started.loader(training, batch, shuffle=True))
    size = min(LARGE.get(model.name, batch), batch)
    x, y = (tensor[:size] for tensor in first)
    key = (model.name, *x.shape)
    if key not in steps:
        network: nn.Module = names["build"](options, arrays.manifest(dataset))
        steps[key] = _step_seconds(network, _loss_of(model.kind, names), x, y, 1 if model.name in LARGE else STEPS) / len(x)
    return seconds / samples, steps[key]


def _step_seconds(network: nn.Module, loss_of: Loss, x: torch.Tensor, y: torch.Tensor, steps: int) -> float:
    """Processor seconds of the quickest step."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    spent = []
    for _ in range(steps):
        began = time.process_time()
        loss_of(network, x, y).backward()
        optimizer.step()
        optimizer.zero_grad()
        spent.append(time.process_time() - began)
    return min(spent)


def _loader_seconds(loader: Any) -> tuple[float, int, tuple[torch.Tensor, torch.Tensor]]:
    """Processor seconds and samples of some batches, and one of them. The first batch is not counted."""
    from paceline.engine.training.shares.sampler import epoch_order

    data, count = loader._data, len(loader._data)
    size = min(loader.global_batch_size, count)
    began = time.process_time()
    order = epoch_order(count, 0, 0, 0, count)  # once an epoch
    seconds = (time.process_time() - began) / count * size * LOADER_BATCHES
    first: Any = None
    for number in range(LOADER_BATCHES + 1):
        start = number * size % max(1, count - size)
        began = time.process_time()
        batch = data.read_batch(order[start : start + size].tolist())
        if first is not None:
            seconds += time.process_time() - began
        first = first or batch
    return seconds, LOADER_BATCHES * size, first


def _loss_of(kind: str, names: dict[str, Any]) -> Loss:
    if kind == "language":
        return lambda network, x, y: functional.cross_entropy(network(x.long()).flatten(0, 1), y.long().flatten())
    if kind == "translation":
        return lambda network, x, y: names["losses_of"](network, x.long(), y.long())[0]
    if kind == "series":
        return lambda network, x, y: functional.mse_loss(network(x), y)
    cut = names.get("cut", lambda x: x)
    return lambda network, x, y: functional.cross_entropy(network(cut(x)), y)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        sys.exit(0 if all(figure.is_met for figure in measure(Path(directory))) else 1)
