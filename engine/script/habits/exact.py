"""Metrics over unequal ranks that equal those of one process: errors of a forecast, and BLEU. Sums travel, never means of means."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import torch

from ...errors import UsageError
from ..run import Run


class ForecastSums:
    """Sums of the errors of a forecast, in float64."""

    def __init__(self, centre: float) -> None:
        """``centre``: near the mean of the targets and equal on all ranks; it keeps the variance exact."""
        self._centre = centre
        self._sums = torch.zeros(5, dtype=torch.float64)

    def add(self, predicted: torch.Tensor, y: torch.Tensor) -> None:
        """Add a batch: predictions and targets [n]."""
        error, level = (predicted - y).double(), y.double() - self._centre
        sums = [len(y), error.square().sum(), error.abs().sum(), level.sum(), level.square().sum()]
        self._sums += torch.stack([torch.as_tensor(value, dtype=torch.float64).cpu() for value in sums])

    def metrics(self, run: Run) -> dict[str, float]:
        """Return ``mse``, ``mae`` and ``r2`` (1 minus the squared errors over those of the mean) of all ranks. Collective."""
        count, squares, absolutes, level, levels = (run.sum(value) for value in self._sums.tolist())
        if not count:
            return {"mse": float("nan"), "mae": float("nan"), "r2": float("nan")}
        spread = levels - level * level / count
        return {"mse": squares / count, "mae": absolutes / count, "r2": 1 - squares / spread if spread > 0 else float("nan")}


def bleu(run: Run, translations: Sequence[str], references: Sequence[str], tokenize: str = "13a") -> tuple[float, str]:
    """Return sacrebleu's corpus BLEU of the sentences of all ranks, 0 to 100, and its signature. Collective.

    BLEU is made of counts of n-grams and of lengths (Papineni et al. 2002), which add up over ranks. ``tokenize``: of sacrebleu;
    ``none`` for sentences of generated words. Raises UsageError where sacrebleu is missing.
    """
    metric = _package("sacrebleu.metrics").BLEU(tokenize=tokenize, force=tokenize == "none")
    own = [0] * 10
    if translations:
        score = metric.corpus_score(list(translations), [list(references)])
        own = [score.sys_len, score.ref_len, *score.counts, *score.totals]
    sums = [round(run.sum(value)) for value in own]
    whole = type(metric).compute_bleu(sums[2:6], sums[6:], sums[0], sums[1], smooth_method="exp")
    metric.corpus_score(["a"], [["a"]])  # the signature counts references only after a score
    return float(whole.score), str(metric.get_signature())


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise UsageError(f"{package} is not installed", hint="pip install 'paceline[hub]'") from None
