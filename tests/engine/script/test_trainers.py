"""Accelerate, Hugging Face's Trainer and Lightning, unchanged: small trainings on gloo with unlike shares, against one process.

They are no dependency of Paceline: where one is missing its test is skipped.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from paceline.engine.script.doors.unchanged import open_doors
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from tests.support.runs.changing_shares import ChangingShares, script_session
from tests.support.runs.gloo_ranks import run_on_ranks

pytestmark = pytest.mark.slow

WORLD, BATCH, SAMPLES, EPOCHS = 3, 4, 101, 3
"""Nine steps an epoch, the last one of five samples."""


class Rows(Dataset[Any]):
    """Rows that say which they are."""

    def __init__(self) -> None:
        draw = torch.Generator().manual_seed(5)
        self.x = torch.randn(SAMPLES, 6, generator=draw, dtype=torch.float64)
        self.y = torch.randint(0, 4, (SAMPLES,), generator=draw)

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        return self.x[row], self.y[row], row


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double()


def on_torchrun(rank: int, world: int, name: str) -> None:
    """The variables from which libraries learn that they are one of several ranks."""
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world),
        LOCAL_WORLD_SIZE=str(world),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT="1",
        TORCHELASTIC_RUN_ID=name,
        ACCELERATE_USE_CPU="true",
        HF_HUB_OFFLINE="1",
        OMP_NUM_THREADS="1",
    )


def weights_of(model: nn.Module) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


# Accelerate -----------------------------------------------------------------------------------------------------------------


def accelerated(rank: int, world: int, splits: bool, accumulation: int) -> dict[str, Any]:
    from accelerate import Accelerator, DataLoaderConfiguration

    on_torchrun(rank, world, "accelerate")
    session = script_session(rank, world)
    full = BATCH * WORLD
    session.balance = ChangingShares(full, world, 7)
    patches = open_doors(session)
    accelerator = Accelerator(
        cpu=True,
        gradient_accumulation_steps=accumulation,
        dataloader_config=DataLoaderConfiguration(split_batches=splits),
    )
    torch.manual_seed(3)
    data = Rows()
    loader = DataLoader(data, full if splits else BATCH, shuffle=True)
    validation = DataLoader(data, full if splits else BATCH)
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    model, optimizer, loader, validation = accelerator.prepare(model, optimizer, loader, validation)
    rows: list[list[int]] = []
    seen = 0
    for _ in range(EPOCHS):
        model.train()
        for step, (x, y, numbers) in enumerate(loader):
            with accelerator.accumulate(model):
                loss = functional.cross_entropy(model(x), y)
                assert session.current is not None
                rows.append(numbers.tolist()[: session.current.own])  # without samples that only stand in
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
            if step == 4:
                model.eval()
                seen = 0
                for xs, *_ in validation:
                    with torch.no_grad():
                        seen += len(accelerator.gather_for_metrics(model(xs)))
                model.train()
    patches.undo()
    return {
        "weights": weights_of(model),
        "rows": rows,
        "verdict": (session.judge.state, session.judge.reason, session.door),
        "seen": seen,
    }


def accelerated_split(rank: int, world: int) -> dict[str, Any]:
    return accelerated(rank, world, True, 1)


def accelerated_plain(rank: int, world: int) -> dict[str, Any]:
    return accelerated(rank, world, False, 1)


def accelerated_windows(rank: int, world: int) -> dict[str, Any]:
    return accelerated(rank, world, False, 3)


def one_process(batches: list[list[list[int]]], accumulation: int) -> torch.Tensor:
    """The same global batches whole."""
    data, model = Rows(), network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    steps = len(batches) // EPOCHS
    for place, ranks in enumerate(batches):
        rows = [row for rank in ranks for row in rank]
        (functional.cross_entropy(model(data.x[rows]), data.y[rows]) / accumulation).backward()
        step = place % steps
        if (step + 1) % accumulation == 0 or step + 1 == steps:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    return weights_of(model)


@pytest.mark.parametrize("kind", ["plain", "split", "windows"])
def test_accelerate_is_balanced_and_trains_as_one_process(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    act = {"plain": accelerated_plain, "split": accelerated_split, "windows": accelerated_windows}[kind]
    ranks = run_on_ranks(act, tmp_path, WORLD)
    assert {rank["verdict"] for rank in ranks} == {("balanced", None, "accelerate")}
    assert {rank["seen"] for rank in ranks} == {SAMPLES}  # evaluation stays as it is
    batches = [list(step) for step in zip(*(rank["rows"] for rank in ranks), strict=True)]
    steps = len(batches) // EPOCHS
    assert sorted(row for step in batches[steps : 2 * steps] for rows in step for row in rows) == list(range(SAMPLES))
    assert len({len(rows) for step in batches[steps:] for rows in step}) > 2
    expected = one_process(batches, 3 if kind == "windows" else 1)
    for rank in ranks:
        assert difference(rank["weights"], expected) <= 1e-12


# Hugging Face's Trainer -----------------------------------------------------------------------------------------------------

LENGTH, WORDS = 8, 32


class Tokens(Dataset[Any]):
    """Sentences of which unlike numbers of tokens are labels."""

    def __init__(self) -> None:
        draw = torch.Generator().manual_seed(9)
        self.words = torch.randint(0, WORDS, (SAMPLES, LENGTH), generator=draw)
        hidden = torch.rand(SAMPLES, LENGTH, generator=draw) < torch.rand(SAMPLES, 1, generator=draw)
        hidden[:, 0] = True
        hidden[:, -1] = False
        self.labels = self.words.masked_fill(hidden, -100)

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {"input_ids": self.words[row], "labels": self.labels[row], "row": row}


def language_model() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=WORDS, n_positions=LENGTH, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=1)
    config.resid_pdrop = config.embd_pdrop = config.attn_pdrop = 0.0
    return GPT2LMHeadModel(config).double()


def by_trainer(rank: int, world: int, accumulation: int = 1) -> dict[str, Any]:
    on_torchrun(rank, world, "trainer")
    from transformers import Trainer, TrainingArguments

    session = script_session(rank, world)
    session.balance = ChangingShares(BATCH * world, world, 11, 1)
    patches = open_doors(session)
    rows: list[list[int]] = []

    def collate(samples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        rows.append([sample["row"] for sample in samples])
        return {name: torch.stack([sample[name] for sample in samples]) for name in ("input_ids", "labels")}

    options = TrainingArguments(
        output_dir=f"/tmp/never-written-{os.getpid()}",
        per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=accumulation,
        num_train_epochs=EPOCHS,
        learning_rate=0.01,
        lr_scheduler_type="constant",
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        logging_steps=3,
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
    trainer = Trainer(model=language_model(), args=options, train_dataset=Tokens(), data_collator=collate)
    trainer.train()
    patches.undo()
    verdict = session.judge.state, session.judge.reason, session.door
    return {"weights": weights_of(trainer.model), "rows": rows, "verdict": verdict}


def by_trainer_in_windows(rank: int, world: int) -> dict[str, Any]:
    return by_trainer(rank, world, 2)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_trainer_is_balanced_and_its_tokens_are_not_weighed_twice(accumulation: int, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    ranks = run_on_ranks(by_trainer if accumulation == 1 else by_trainer_in_windows, tmp_path, WORLD)
    assert {rank["verdict"] for rank in ranks} == {("balanced", None, "accelerate")}
    batches = [[row for rows in step for row in rows] for step in zip(*(rank["rows"] for rank in ranks), strict=True)]
    assert len({len(rows) for rank in ranks for rows in rank["rows"]}) > 3
    data, model = Tokens(), language_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0)
    steps = len(batches) // EPOCHS
    for epoch in range(EPOCHS):
        for start in range(0, steps, accumulation):
            window = batches[epoch * steps + start : epoch * steps + min(start + accumulation, steps)]
            rows = [row for batch in window for row in batch]
            model(input_ids=data.words[rows], labels=data.labels[rows]).loss.backward()  # the mean over all tokens
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    for rank in ranks:
        assert difference(rank["weights"], weights_of(model)) <= 1e-5  # transformers computes its loss in float32


# Lightning ------------------------------------------------------------------------------------------------------------------


def by_lightning(rank: int, world: int) -> dict[str, Any]:
    on_torchrun(rank, world, "lightning")
    lightning: Any = importlib.import_module("lightning")
    session = script_session(rank, world)
    session.balance = ChangingShares(BATCH * world, world, 5, 1)
    patches = open_doors(session)
    rows: list[list[int]] = []

    class Module(lightning.LightningModule):  # type: ignore[misc]  # of a package without types
        """Trains as everybody writes it."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network()

        def training_step(self, batch: Any, step: int) -> torch.Tensor:
            x, y, numbers = batch
            assert session.current is not None
            rows.append(numbers.tolist()[: session.current.own])
            return functional.cross_entropy(self.network(x), y)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=0.01)

    torch.set_default_dtype(torch.float64)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(
        accelerator="cpu", devices=world, strategy="ddp", precision="64-true", max_epochs=EPOCHS, gradient_clip_val=1.0, **quiet
    )
    model = Module()
    trainer.fit(model, DataLoader(Rows(), BATCH, shuffle=True))
    patches.undo()
    return {"weights": weights_of(model), "rows": rows, "verdict": (session.judge.state, session.judge.reason, session.door)}


def test_lightning_is_balanced_and_trains_as_one_process(tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    ranks = run_on_ranks(by_lightning, tmp_path, 2)
    assert {rank["verdict"] for rank in ranks} == {("balanced", None, "torch")}
    batches = [list(step) for step in zip(*(rank["rows"] for rank in ranks), strict=True)]
    assert len({len(rows) for step in batches for rows in step}) > 2
    for rank in ranks:
        assert difference(rank["weights"], one_process(batches, 1)) <= 1e-12
