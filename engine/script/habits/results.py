"""``paceline.Results``: what a training leaves behind: metrics.csv, a JSON for each rank and epoch, the best model."""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import sys
from pathlib import Path

import torch

from ...errors import StorageFailed
from ..loader import Loader
from ..run import Run

LOWER_IS_BETTER = ("loss", "validation_loss", "mse", "mae", "perplexity", "nats")
"""Metrics of which less is better; of all others more is."""


class Results:
    """Keeps the metrics of a training."""

    def __init__(self, run: Run, options: argparse.Namespace) -> None:
        """``options``: from ``paceline.options``; an empty ``results`` keeps nothing."""
        self._run, self._patience = run, options.early_stop
        self._directory = Path(options.results) if options.results else None
        self._best: float | None = None
        self._since_best = 0
        self._is_begun = False

    def epoch(self, loader: Loader, *, tokens: float = 0, **metrics: float) -> None:
        """Note the end of an epoch: a curve for each metric, a row, a JSON. Ends the training where it no longer improves.

        ``metrics``: equal on all ranks; the first one says which model is the best. ``tokens``: that this rank trained in the
        epoch. Collective. Raises StorageFailed where the results cannot be written.
        """
        run = self._run
        seconds = loader.seconds
        samples, all_tokens = run.sum(loader.samples), run.sum(tokens)
        rates = {"samples_per_sec": samples / seconds} if seconds else {}
        if all_tokens and seconds:
            rates["tokens_per_sec"] = all_tokens / seconds
        run.log(**metrics, **({"tokens_per_sec": rates["tokens_per_sec"]} if "tokens_per_sec" in rates else {}))
        is_better = self._is_better(*next(iter(metrics.items())))
        self._since_best = 0 if is_better else self._since_best + 1
        if self._directory is not None:
            row = {"epoch": run.epoch + 1, **metrics, "training_time": seconds, **rates, "peak_memory": peak_memory(run.device)}
            self._write(row, loader, tokens, is_better)
        if self._patience and self._since_best >= self._patience:
            run.print(f"no better validation in {self._since_best} epochs: the training ends here")
            run.stop()

    def state_dict(self) -> dict[str, float | int | None]:
        """State for a checkpoint: the best metric, and the epochs since."""
        return {"best": self._best, "since_best": self._since_best}

    def load_state_dict(self, state: dict[str, float | int | None]) -> None:
        """Go on from the state of a checkpoint."""
        self._best, self._since_best = state["best"], int(state["since_best"] or 0)

    def _is_better(self, name: str, value: float) -> bool:
        is_better = self._best is None or (value < self._best if name in LOWER_IS_BETTER else value > self._best)
        self._best = value if is_better else self._best
        return is_better

    def _write(self, row: dict[str, float], loader: Loader, tokens: float, is_better: bool) -> None:
        run, directory = self._run, self._directory
        assert directory is not None
        try:
            directory.mkdir(parents=True, exist_ok=True)
            own = {"rank": run.rank, "world_size": run.world_size, "samples": loader.samples, "tokens": tokens}
            (directory / f"rank{run.rank}_results_epoch{run.epoch}.json").write_text(
                json.dumps(self._reference(row) | own, indent=1)
            )
            if not run.is_main_process:
                return
            with (directory / "metrics.csv").open("a" if self._is_begun or run.epoch else "w", newline="") as file:
                rows = csv.writer(file)
                if file.tell() == 0:
                    rows.writerow(row)
                rows.writerow(row.values())
            if is_better:
                run.save_model(directory / "best.pt")
        except OSError as error:
            raise StorageFailed(f"cannot write results to {directory}: {error.strerror}", hint="free some space there") from None
        self._is_begun = True

    def _reference(self, row: dict[str, float]) -> dict[str, float | None]:
        """A row with the words of the reference's rank files, null where this training has no such thing."""
        loss = next((row[name] for name in ("validation_loss", "loss", "mse", "nats") if name in row), None)
        words = {"validation_loss": loss, "bleu": row.get("bleu"), "tokens_per_sec": row.get("tokens_per_sec")}
        return {**row, **words}


def peak_memory(device: torch.device) -> int:
    """Bytes that this process has used at most: on its GPU, or of the machine's memory."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit if os.name == "posix" else 0
