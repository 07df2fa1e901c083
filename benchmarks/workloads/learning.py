"""What the models learn: ``python -m benchmarks.workloads.learning [--only PAIR,…] [--sources DIR]``.

REAL: every row runs the packaged script of a pair on prepared data, in one process with one thread, as a person would. Generated
data and the digits need nothing. Files of other data sets are read from ``DIR/NAME`` (of AG News the first 6,000 and 1,600 rows); a
row whose files are missing is left out, and says so. The curves of all epochs go to benchmarks/results/workloads_learning.csv.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from paceline.engine.datasets.preparation import prepare_dataset
from paceline.engine.protocol.data_names import DATA_VARIABLE
from paceline.engine.workloads.options import Value
from paceline.engine.workloads.pairs import pair_of

from benchmarks.places import CHECKOUT
from benchmarks.table import Figure, print_figures, write_csv


@dataclass(frozen=True, slots=True)
class Row:
    """One training and what it must reach."""

    pair: str
    metric: str
    goal: float | None
    """None: the figure is told beside ``beside``, without a goal."""
    unit: str = ""
    is_lower_better: bool = False
    options: Mapping[str, Value] = field(default_factory=dict)
    """Of the script."""
    data_options: Mapping[str, Value] = field(default_factory=dict)
    beside: str = ""
    """Metric that stands beside it."""


ROWS = (
    Row("simple-cnn-digits", "accuracy", 0.97),
    Row("translator-synthetic-pairs", "bleu", 40.0),
    Row("agnews-small-synthetic-text", "accuracy", 0.90),
    Row(
        "agnews-small-agnews",
        "accuracy",
        0.80,
        options={"hidden_dim": 64, "layers": 1, "length": 64, "epochs": 5, "lr": 0.002},
        data_options={"train": 6000, "validation": 1600},
    ),
    Row("mlp-sp500", "r2", None, beside="persistence_r2"),
    Row("lstm-sp500", "r2", None, beside="persistence_r2"),
    Row("transformer-sp500", "r2", None, beside="persistence_r2"),
    Row("simple-cnn-fashion-mnist", "accuracy", 0.90),
    Row("char-lm-text-file", "validation_loss", 1.9, "nats", is_lower_better=True, options={"epochs": 8}),
    Row(
        "translator-multi30k",
        "bleu",
        None,
        options={"hidden_dim": 128, "layers": 2, "heads": 4, "batch": 64, "epochs": 8, "lr": 0.002},
    ),
)
"""Every training, the quick ones first."""


def train(row: Row, data: Path, place: Path) -> tuple[list[dict[str, float]], float]:
    """Run the script of a row; its metrics of all epochs, and the seconds it took. Raises CalledProcessError."""
    pair = pair_of(row.pair, row.options)
    assert pair is not None
    script = CHECKOUT / "engine/script/examples" / pair.model.script
    environment = os.environ | {DATA_VARIABLE: str(data), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    started = time.perf_counter()
    subprocess.run([sys.executable, str(script), *pair.arguments, "--results", str(place)], env=environment, check=True)
    with (place / "metrics.csv").open() as file:
        curve = [{name: float(value) for name, value in line.items()} for line in csv.DictReader(file)]
    return curve, time.perf_counter() - started


def figure(row: Row, curve: list[dict[str, float]], seconds: float) -> Figure:
    """The best epoch of a training against its goal."""
    values = [line[row.metric] for line in curve]
    best = min(values) if row.is_lower_better else max(values)
    epoch = values.index(best) + 1
    text = f"{best:.4g} {row.unit}".strip() + f" in epoch {epoch} of {len(values)}, {seconds:.0f} s"
    if row.beside:
        text += f"; {row.beside} {curve[epoch - 1][row.beside]:.4g}"
    is_met = row.goal is None or (best < row.goal if row.is_lower_better else best >= row.goal)
    goal = "told" if row.goal is None else f"{'<' if row.is_lower_better else '>='} {row.goal:g}"
    return Figure(f"{row.pair}: {row.metric}", goal, text, is_met)


def main() -> int:
    """Train what is asked for; one line for each row, as it ends."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--only", default="", help="pairs, separated by commas")
    parser.add_argument("--sources", type=Path, default=CHECKOUT / "data" / "sources", help="a folder for each data set")
    arguments = parser.parse_args()
    figures, curves = [], []
    with tempfile.TemporaryDirectory() as place:
        for row in ROWS:
            pair = pair_of(row.pair)
            assert pair is not None
            if arguments.only and row.pair not in arguments.only.split(","):
                continue
            files = arguments.sources / pair.dataset.name
            has_files = files.is_dir()
            if not has_files and not pair.dataset.is_generated and pair.dataset.name != "digits":
                print(f"left out: {row.pair}, for there is no {files}", flush=True)
                continue
            _, prepared = prepare_dataset(
                pair.dataset.name, [files] if has_files else [], Path(place) / "data", options=row.data_options
            )
            named = Path(place) / row.pair / "named"
            named.mkdir(parents=True)
            (named / pair.dataset.name).symlink_to(prepared)
            curve, seconds = train(row, named, Path(place) / row.pair / "results")
            figures.append(figure(row, curve, seconds))
            print_figures(figures[-1:])
            curves += [(row.pair, int(line["epoch"]), row.metric, line[row.metric], line["training_time"]) for line in curve]
            write_csv("workloads_learning", ("pair", "epoch", "metric", "value", "training_seconds"), curves)
    return 0 if all(one.is_met for one in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
