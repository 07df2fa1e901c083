"""What a person sees of the library: a thin import, examples to copy, few changed lines, clear refusals."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from paceline.engine.errors import DataRefused, UsageError
from paceline.engine.protocol.data_names import DATA_VARIABLE
from paceline.engine.script import arrays, process, run
from paceline.engine.ssh.bundle import bundle
from paceline.engine.workloads import WORKLOADS
from paceline.engine.workloads.models import MODELS
from torch import nn

from tests.support.places import CHECKOUT

EXAMPLES = CHECKOUT / "engine/script/examples"

PLAIN = """
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler
from data import rows

dist.init_process_group("gloo")
model = DistributedDataParallel(nn.Linear(8, 4))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
sampler = DistributedSampler(rows)
loader = DataLoader(rows, batch_size=64, sampler=sampler)
for epoch in range(10):
    sampler.set_epoch(epoch)
    for x, y in loader:
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
"""
ON_LIBRARY = """
import torch
import paceline
from torch import nn
from data import rows

run = paceline.init()
model = run.wrap(nn.Linear(8, 4))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
loader = run.loader(rows, 256, shuffle=True)
for epoch in run.epochs(10):
    for x, y in loader:
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
"""


def test_importing_the_library_imports_nothing_heavy(tmp_path: Path) -> None:
    """As on a node, from the bundle alone."""
    packed = tmp_path / bundle().name
    packed.write_bytes(bundle().data)
    program = "import sys, paceline; print(sorted({'torch', 'numpy'} & set(sys.modules)), paceline.__all__)"
    ended = subprocess.run(
        [sys.executable, "-S", "-c", program], env={"PYTHONPATH": str(packed)}, capture_output=True, text=True, check=True
    )
    assert ended.stdout.startswith("[] [")
    assert "'init'" in ended.stdout


def test_a_plain_script_changes_at_most_twelve_lines() -> None:
    before, after = PLAIN.strip().splitlines(), ON_LIBRARY.strip().splitlines()
    assert len([line for line in after if line not in before]) <= 12
    assert len([line for line in before if line not in after]) <= 12


def test_every_workload_is_an_example_of_at_most_80_lines() -> None:
    names = {path.stem.replace("_", "-") for path in EXAMPLES.glob("[a-z]*.py")}
    assert names - {"fit-rows"} == set(WORKLOADS) | set(MODELS)  # the program of paceline fit is no example
    assert all(len(path.read_text().splitlines()) <= 80 for path in EXAMPLES.glob("*.py") if path.stem != "fit_rows")


@pytest.mark.parametrize("name", ["digits-cnn", "sp500-mlp"])
def test_an_example_trains_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = WORKLOADS[name].input_shape
    draw = np.random.default_rng(0)
    prepared = tmp_path / name.partition("-")[0]  # the name that it asks for
    prepared.mkdir()
    (prepared / "manifest.json").write_text("{}")
    for part, count in (("train", 60), ("validation", 30)):
        np.save(prepared / f"{part}_x.npy", draw.random((count, *shape), dtype=np.float32))
        is_class = WORKLOADS[name].task == "classification"
        y = draw.integers(0, 10, count) if is_class else draw.random(count, dtype=np.float32)
        np.save(prepared / f"{part}_y.npy", y)
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["train.py", "--epochs", "2", "--batch", "25"])
    monkeypatch.setattr("paceline.init", run.init, raising=False)
    monkeypatch.setattr("paceline.dataset", arrays.dataset, raising=False)
    runpy.run_path(str(EXAMPLES / f"{name.replace('-', '_')}.py"), run_name="__main__")
    process.closed()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["epoch", "1"], ["epoch", "2"]]


def test_an_unknown_data_set_is_named() -> None:
    with pytest.raises(DataRefused, match="no data set 'digit'"):
        arrays.dataset("digit")


def test_sparse_gradients_are_refused_by_the_name_of_their_layer() -> None:
    started = run.init()
    with pytest.raises(UsageError, match="words has sparse gradients"):
        started.wrap(nn.ModuleDict({"words": nn.Embedding(10, 4, sparse=True)}))
    process.closed()


def test_where_memory_runs_out_micro_batches_become_smaller() -> None:
    started = run.init()
    model = started.wrap(nn.Linear(3, 2))
    sizes: list[int] = []

    def loss_of(part: torch.Tensor) -> torch.Tensor:
        sizes.append(len(part))
        if len(part) > 5:
            raise torch.OutOfMemoryError
        loss: torch.Tensor = model(part).pow(2).mean()
        return loss

    batch = torch.randn(16, 3)
    mean = started.step(batch, loss_of)
    gradient = next(model.parameters()).grad
    model.zero_grad()
    whole = model(batch).pow(2).mean()
    whole.backward()
    assert max(sizes[2:]) <= 5
    assert mean == pytest.approx(float(whole.detach()), rel=1e-6)
    assert gradient is not None
    torch.testing.assert_close(gradient, next(model.parameters()).grad)
    with pytest.raises(Exception, match="a single sample does not fit"):
        started.step(torch.randn(1, 3), lambda part: loss_of(torch.randn(9, 3)))
    process.closed()
