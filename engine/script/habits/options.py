"""``paceline.options``: the command line of a training script, from names and defaults, with the habits that all scripts share."""

from __future__ import annotations

import argparse
from math import isfinite
from typing import Any

from ...states import PRECISIONS
from ...workloads.options import SCHEDULES

HABITS: dict[str, tuple[Any, str]] = {
    "seed": (0, "seed of the model, the order of samples and the augmentation"),
    "precision": ("fp32", "number format of products"),
    "clip": (0.0, "largest norm of the gradient of the whole batch (0: any)"),
    "weight_decay": (0.0, "weight decay of the optimizer"),
    "schedule": ("constant", "course of the learning rate after the warm-up"),
    "warmup_steps": (0, "steps in which the learning rate rises from 0"),
    "early_stop": (0, "epochs without a better validation after which the training ends (0: never)"),
    "checkpoint": ("", "file that keeps the newest state, and from which the script goes on"),
    "results": ("results", "directory of metrics.csv, the best model and a JSON for each rank and epoch"),
}
"""Default and help of the options of every script."""
_CHOICES = {"precision": PRECISIONS, "schedule": SCHEDULES}
_USUAL = {
    "dataset": "name of the data set",
    "epochs": "passes over the training data",
    "batch": "samples of all devices together in one step",
    "lr": "learning rate",
}


def options(description: str | None = None, **defaults: Any) -> argparse.Namespace:
    """Read the command line: an option for every name, of the type of its default, beside those in ``HABITS``.

    ``description``: of ``--help``, usually the first line of the script. A default for one of the habits replaces ours.
    """
    parser = argparse.ArgumentParser(description=(description or "").strip().partition("\n")[0] or None)
    plain = {name: default for name, (default, _) in HABITS.items() if name not in defaults}
    for name, default in (defaults | plain).items():
        told = HABITS[name][1] if name in HABITS else _USUAL.get(name, name.replace("_", " "))
        text = f"{told} (default: {default})" if default != "" else told
        read = _number if isinstance(default, float) else type(default)
        parser.add_argument("--" + name.replace("_", "-"), type=read, default=default, choices=_CHOICES.get(name), help=text)
    parser.add_argument("--every-step", action="store_true", help="also write steps.csv, a row for each step")
    return parser.parse_args()


def _number(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise argparse.ArgumentTypeError(f"{text} is no finite number")
    return value
