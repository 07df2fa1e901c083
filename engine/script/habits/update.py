"""``paceline.Update``: from a loss to new weights: precision, gradient, clipping, optimizer, schedule of the learning rate."""

from __future__ import annotations

import argparse
import contextlib
import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from ..run import Run

_FORMATS = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Update:
    """One optimizer step for each call. Under ``precision`` fp16 the loss is scaled, and a step that overflows is left out."""

    def __init__(
        self, run: Run, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, options: argparse.Namespace
    ) -> None:
        """``steps``: of the whole training, for the schedule; ``options``: from ``paceline.options``."""
        self._run, self._model, self._optimizer = run, model, optimizer
        self._clip, self._precision = options.clip, options.precision
        self._schedule = LambdaLR(optimizer, lambda step: learning_rate(step, steps, options.warmup_steps, options.schedule))
        self._scaler = torch.amp.GradScaler(run.device.type, enabled=self._precision == "fp16")
        if run.device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self._precision == "tf32"
        self._log = Path(options.results) / "steps.csv" if options.every_step and run.is_main_process else None
        self.steps = 0
        """Optimizer steps so far."""

    def precision(self) -> contextlib.AbstractContextManager[None]:
        """Return the context of forward and loss: products in bf16 or fp16 where that was asked for."""
        if self._precision not in _FORMATS:
            return contextlib.nullcontext()
        return torch.autocast(self._run.device.type, dtype=_FORMATS[self._precision])

    def __call__(self, loss: torch.Tensor, count: int | torch.Tensor | None = None) -> None:
        """Back-propagate, clip the gradient of the whole batch, step, move the learning rate, clear the gradient.

        ``loss``: a mean over the local batch, or with ``count`` a sum over that many samples or tokens.
        """
        self._run.backward(self._scaled(loss), count)
        self._step(float(loss.detach()) / (1 if count is None else max(float(count), 1.0)) if self._log is not None else 0.0)

    def in_parts(self, batch: Any, loss_of: Callable[[Any], torch.Tensor]) -> None:
        """As a call with ``loss_of(batch)``, a mean over samples, in micro-batches where memory does not hold the whole batch."""

        def scaled(part: Any) -> torch.Tensor:
            with self.precision():
                return self._scaled(loss_of(part))

        loss = self._run.step(batch, scaled)
        self._step(loss / self._scaler.get_scale())

    def _scaled(self, loss: torch.Tensor) -> torch.Tensor:
        return self._scaler.scale(loss) if self._scaler.is_enabled() else loss

    def _step(self, loss: float) -> None:
        rate = float(self._schedule.get_last_lr()[0])
        if self._clip:
            self._scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(self._model.parameters(), self._clip)
        self._scaler.step(self._optimizer)
        scale = self._scaler.get_scale()
        self._scaler.update()
        if self._scaler.get_scale() >= scale:  # else the step overflowed and was left out
            self._schedule.step()
        self._optimizer.zero_grad()
        if self._log is not None:
            self._write(loss, rate)
        self.steps += 1

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return {"steps": self.steps, "schedule": self._schedule.state_dict(), "scaler": self._scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the state of a checkpoint."""
        self.steps = int(state["steps"])
        self._schedule.load_state_dict(state["schedule"])
        self._scaler.load_state_dict(state["scaler"])

    def _write(self, loss: float, rate: float) -> None:
        assert self._log is not None
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("a" if self.steps else "w", newline="") as file:
            rows = csv.writer(file)
            if not self.steps:
                rows.writerow(["step", "epoch", "loss_of_rank_0", "learning_rate"])
            rows.writerow([self.steps, self._run.epoch, loss, rate])


def learning_rate(step: int, steps: int, warmup: int, schedule: str) -> float:
    """Factor on the learning rate of a step: a straight rise, then constant, a half cosine or a straight line to 0."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 + 0.5 * math.cos(math.pi * done)}[schedule]
