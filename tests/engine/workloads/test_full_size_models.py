"""The large models as they are: a real step of each on four unlike emulated devices, from files in the formats of the hub."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.runs.labs import LabDirectory

SPEEDS = {"RTX 3060": 12.7, "RTX 3050": 9.1, "GTX 1650": 3.0, "GTX 1650 Ti": 3.0}
TRAINING, VALIDATION, BATCH = 16, 4, 16


def write_images(directory: Path, draw: np.random.Generator) -> None:
    from datasets import ClassLabel, Dataset, Features, Image
    from PIL import Image as Pictures

    features = Features({"img": Image(), "label": ClassLabel(num_classes=10)})
    for part, rows in (("train", TRAINING), ("test", VALIDATION)):
        images = []
        for _ in range(rows):
            content = io.BytesIO()
            Pictures.fromarray(draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(content, "PNG")
            images.append({"bytes": content.getvalue(), "path": None})
        labels = [row % 10 for row in range(rows)]
        Dataset.from_dict({"img": images, "label": labels}, features=features).to_parquet(str(directory / f"{part}-0.parquet"))


def write_news(directory: Path, draw: np.random.Generator) -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(num_classes=4)})
    for part, rows in (("train", TRAINING), ("test", VALIDATION)):
        texts = [" ".join(f"word{word}" for word in draw.integers(0, 90, 12)) for _ in range(rows)]
        rows_of = {"text": texts, "label": [row % 4 for row in range(rows)]}
        Dataset.from_dict(rows_of, features=features).to_parquet(str(directory / f"{part}-0.parquet"))


def write_text(directory: Path, draw: np.random.Generator) -> None:
    length = 32
    for part, rows in (("train", TRAINING), ("validation", VALIDATION)):
        letters = draw.integers(97, 123, rows * length + 2, dtype=np.uint8)
        (directory / f"{part}.txt").write_text("".join(map(chr, letters)) + "\n")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("model", "dataset", "write", "parameters", "options"),
    [
        ("resnet50", "cifar10", write_images, 23_528_522, []),
        ("bert-base", "agnews", write_news, 109_485_316, ["--length", "16"]),
        ("gpt2-small", "text-file", write_text, 124_439_808, ["--length", "32"]),
    ],
)
def test_a_large_model_takes_a_real_step_on_four_unlike_devices(
    model: str, dataset: str, write: Any, parameters: int, options: list[str], tmp_path: Path
) -> None:
    lab = LabDirectory(tmp_path, SPEEDS)
    lab.env["HF_HUB_OFFLINE"] = "1"
    sources = tmp_path / "data" / "sources" / dataset
    sources.mkdir(parents=True)
    write(sources, np.random.default_rng(0))
    batch = ["--global-batch-size", str(BATCH), "--epochs", "1", *options]
    status, document = lab.run("train", "--model", model, "--dataset", dataset, "--policy", "proportional", *batch)
    assert status == 0, lab.narration()
    assert document["workload"] == f"{model}-{dataset}"
    assert document["parameters"] == parameters
    assert len(document["devices"]) == len(SPEEDS)
    assert len(document["epochs"]) == 1
    results = [json.loads(path.read_text()) for path in tmp_path.glob("logs/nodes/*/runs/*/work/results/*.json")]
    assert len(results) == len(SPEEDS)
    assert sum(result["samples"] for result in results) == TRAINING  # one step, shared by all devices
