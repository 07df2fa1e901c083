"""The options of models: one table for the scripts, the command line, job files and the help. Imports the standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite

from ..errors import UsageError

Value = int | float | str
SCHEDULES = ("constant", "cosine", "linear")
"""Courses of the learning rate after its warm-up; the last two fall to 0 at the end of the run."""


@dataclass(frozen=True, slots=True)
class ModelOption:
    """One option: ``hidden_dim`` is ``--hidden-dim`` on a command line and ``hidden_dim`` in a job file."""

    name: str
    help: str
    metavar: str = "N"
    is_whole: bool = True
    """Whether its value is a whole number; else any number. Without meaning where it has choices."""
    low: float = 1
    """Smallest value,"""
    high: float = 10**9 - 1
    """and largest."""
    choices: tuple[str, ...] = ()
    """Words, of which its value is one."""

    @property
    def flag(self) -> str:
        """Its word on a command line."""
        return "--" + self.name.replace("_", "-")

    def read(self, text: str) -> Value:
        """The value that a text means. Raises UsageError."""
        if self.choices:
            if text not in self.choices:
                raise UsageError(f"{self.flag} {text[:40]!r} is not one of {', '.join(self.choices)}")
            return text
        what = "a whole number" if self.is_whole else "a number"
        try:
            value: int | float = int(text) if self.is_whole else float(text)
        except ValueError:
            raise UsageError(f"{self.flag} {text[:40]!r} is not {what}") from None
        if not isfinite(value) or not self.low <= value <= self.high:
            raise UsageError(f"{self.flag} {text[:40]} is out of range", hint=f"{what} from {self.low:g} to {self.high:g}")
        return value


TRAINING_OPTIONS: tuple[ModelOption, ...] = (
    ModelOption("lr", "learning rate of a model (default: its own)", "X", is_whole=False, low=0.0, high=1e3),
    ModelOption("weight_decay", "weight decay of a model (default: its own)", "X", is_whole=False, low=0.0, high=1e3),
    ModelOption("clip", "largest norm of the gradient of a model's batch (default: its own; 0: any)", "X", is_whole=False, low=0.0),
    ModelOption("schedule", "course of a model's learning rate", "S", choices=SCHEDULES),
    ModelOption("warmup_steps", "steps in which a model's learning rate rises", "N", low=0),
    ModelOption("early_stop", "epochs without a better validation after which a model stops (0: never)", "N", low=0),
)
"""Options that every script takes."""

SIZES: tuple[ModelOption, ...] = (
    ModelOption("width", "channels of the first layer of a convolutional model"),
    ModelOption("hidden_dim", "width of the hidden layers of a model"),
    ModelOption("layers", "number of layers of a model"),
    ModelOption("heads", "attention heads of a model; they divide its width"),
    ModelOption("dropout", "part of the values that a model drops in training", "X", is_whole=False, low=0.0, high=0.99),
    ModelOption("length", "tokens of a text that a model reads"),
    ModelOption("augment", "whether images are moved and mirrored in training (1) or not (0)", low=0, high=1),
    ModelOption("beam", "sentences that a translator keeps while it searches; 1: greedy"),
)
"""Options of the models that have them."""

OPTIONS: Mapping[str, ModelOption] = {option.name: option for option in (*TRAINING_OPTIONS, *SIZES)}
"""Every option by its name."""
