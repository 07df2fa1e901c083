"""The models by name: each is one script on the library, with the defaults that train it to a useful result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .datasets import DataKind
from .options import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model and its script, ``engine/script/examples/<name>.py`` with ``_`` for ``-``."""

    name: str
    title: str
    """Short description for a screen."""
    kind: DataKind
    """Of the data that it reads."""
    dataset: str
    """The data set that it is trained on where nobody names one."""
    sizes: Mapping[str, Value]
    """Its options beside the habits, with their defaults."""
    epochs: int
    batch: int
    """Samples of all devices in one step."""
    lr: float
    per_dataset: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    """Better defaults for some data sets: ``epochs``, ``batch``, ``lr`` or an option."""
    parameters: Mapping[str, int] = field(default_factory=dict)
    """Trainable parameters with the defaults, by data set; one that is missing depends on the prepared data."""
    needs: tuple[str, ...] = ()
    """Packages beside torch and numpy that its script imports."""

    @property
    def script(self) -> str:
        """File name of its script."""
        return self.name.replace("-", "_") + ".py"

    def default(self, dataset: str, option: str) -> Value | None:
        """The default of ``epochs``, ``batch``, ``lr`` or a size with a data set; None: it has no such option."""
        plain: dict[str, Value] = {"epochs": self.epochs, "batch": self.batch, "lr": self.lr, **self.sizes}
        return self.per_dataset.get(dataset, {}).get(option, plain.get(option))


MODELS: Mapping[str, Model] = {
    model.name: model
    for model in (
        Model(
            name="simple-cnn",
            title="CNN of three stages for small images",
            kind="images",
            dataset="cifar10",
            sizes={"width": 32, "dropout": 0.0, "augment": 1},
            epochs=15,
            batch=256,
            lr=0.002,
            per_dataset={
                "digits": {"epochs": 12, "batch": 128, "augment": 0},
                "fashion-mnist": {"epochs": 3},
                "synthetic-images": {"epochs": 3, "augment": 0},
            },
            parameters={
                **dict.fromkeys(("digits", "fashion-mnist"), 94_410),
                **dict.fromkeys(("cifar10", "synthetic-images"), 94_986),
                "cifar100": 106_596,
            },
        ),
        Model(
            name="resnet50",
            title="ResNet-50 of Hugging Face transformers",
            kind="images",
            dataset="cifar10",
            sizes={"augment": 1},
            epochs=30,
            batch=256,
            lr=0.1,
            per_dataset={"digits": {"augment": 0}, "synthetic-images": {"augment": 0, "epochs": 3}},
            parameters={
                **dict.fromkeys(("digits", "fashion-mnist"), 23_522_250),
                **dict.fromkeys(("cifar10", "synthetic-images"), 23_528_522),
                "cifar100": 23_712_932,
            },
            needs=("transformers",),
        ),
        Model(
            name="agnews-small",
            title="transformer of 2 layers that sorts texts",
            kind="text",
            dataset="agnews",
            sizes={"hidden_dim": 128, "layers": 2, "heads": 4, "length": 128, "dropout": 0.0},
            epochs=4,
            batch=128,
            lr=0.0005,
        ),
        Model(
            name="agnews-large",
            title="transformer of 4 layers that sorts texts",
            kind="text",
            dataset="agnews",
            sizes={"hidden_dim": 256, "layers": 4, "heads": 8, "length": 256, "dropout": 0.0},
            epochs=3,
            batch=48,
            lr=0.0002,
        ),
        Model(
            name="bert-base",
            title="BERT-base of Hugging Face transformers, from random weights",
            kind="text",
            dataset="agnews",
            sizes={"hidden_dim": 768, "layers": 12, "heads": 12, "length": 128, "dropout": 0.1},
            epochs=3,
            batch=64,
            lr=5e-5,
            parameters={"agnews": 109_485_316, "synthetic-text": 109_485_316, "imdb": 109_483_778},
            needs=("transformers",),
        ),
        Model(
            name="gpt2-small",
            title="GPT-2 small of Hugging Face transformers, from random weights",
            kind="language",
            dataset="text-file",
            sizes={"hidden_dim": 768, "layers": 12, "heads": 12, "length": 128, "dropout": 0.1},
            epochs=3,
            batch=32,
            lr=3e-4,
            parameters={"text-file": 124_439_808},
            needs=("transformers",),
        ),
        Model(
            name="char-lm",
            title="small transformer that writes on, character by character",
            kind="language",
            dataset="text-file",
            sizes={"hidden_dim": 128, "layers": 3, "heads": 4, "length": 128, "dropout": 0.0},
            epochs=5,
            batch=64,
            lr=0.002,
        ),
        Model(
            name="mlp",
            title="MLP that forecasts the next price from the last 60",
            kind="series",
            dataset="sp500",
            sizes={"hidden_dim": 128, "layers": 2, "dropout": 0.0},
            epochs=12,
            batch=64,
            lr=0.001,
            parameters=dict.fromkeys(("sp500", "synthetic-series"), 16_129),
        ),
        Model(
            name="lstm",
            title="LSTM that forecasts the next price from the last 60",
            kind="series",
            dataset="sp500",
            sizes={"hidden_dim": 64, "layers": 2, "dropout": 0.0},
            epochs=10,
            batch=64,
            lr=0.001,
            parameters=dict.fromkeys(("sp500", "synthetic-series"), 50_497),
        ),
        Model(
            name="transformer",
            title="transformer that forecasts the next price from the last 60",
            kind="series",
            dataset="sp500",
            sizes={"hidden_dim": 64, "layers": 2, "heads": 4, "dropout": 0.0},
            epochs=10,
            batch=64,
            lr=0.0005,
            parameters=dict.fromkeys(("sp500", "synthetic-series"), 104_129),
        ),
        Model(
            name="translator",
            title="transformer that translates sentences",
            kind="translation",
            dataset="multi30k",
            sizes={"hidden_dim": 256, "layers": 3, "heads": 8, "length": 64, "dropout": 0.1, "beam": 1},
            epochs=10,
            batch=128,
            lr=0.001,
            per_dataset={
                "synthetic-pairs": {
                    "hidden_dim": 64,
                    "layers": 2,
                    "heads": 4,
                    "dropout": 0.0,
                    "epochs": 3,
                    "batch": 64,
                    "lr": 0.002,
                }
            },
        ),
    )
}
"""Every model by its name on the command line."""

MODEL_ALIASES: Mapping[str, str] = {
    "cnn": "simple-cnn",
    "simplecnn": "simple-cnn",
    "resnet": "resnet50",
    "resnet-50": "resnet50",
    "bert": "bert-base",
    "gpt2": "gpt2-small",
    "gpt-2": "gpt2-small",
    "ag-news-small": "agnews-small",
    "ag-news-large": "agnews-large",
}
"""Spellings of other projects, with ``_`` as ``-``."""
