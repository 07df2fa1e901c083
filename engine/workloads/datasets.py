"""The data sets by name: their kind, what is in them, and the models they are trained with where nobody names one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

DataKind = Literal["images", "text", "language", "series", "translation"]
"""What a sample is; it decides which models fit."""


@dataclass(frozen=True, slots=True)
class DataSet:
    """One data set."""

    name: str
    title: str
    """Short description for a screen."""
    kind: DataKind
    model: str
    """The model that it is trained with where nobody names one."""
    is_generated: bool = False
    """Whether a seed makes it: it needs no file and no network."""


DATASETS: Mapping[str, DataSet] = {
    dataset.name: dataset
    for dataset in (
        DataSet("digits", "1,797 handwritten digits of 8x8", "images", "simple-cnn"),
        DataSet("fashion-mnist", "70,000 pieces of clothing of 28x28", "images", "simple-cnn"),
        DataSet("cifar10", "60,000 photographs of 32x32 in 10 classes", "images", "resnet50"),
        DataSet("cifar100", "60,000 photographs of 32x32 in 100 classes", "images", "resnet50"),
        DataSet("synthetic-images", "generated images of 3x32x32 in 10 classes", "images", "simple-cnn", is_generated=True),
        DataSet("agnews", "127,600 news in 4 topics", "text", "agnews-small"),
        DataSet("imdb", "50,000 film reviews, good or bad", "text", "agnews-large"),
        DataSet("synthetic-text", "generated texts of 4 topics", "text", "agnews-small", is_generated=True),
        DataSet("text-file", "a text file of your own, such as the plays of Shakespeare", "language", "char-lm"),
        DataSet("sp500", "daily closing prices of ^GSPC or another ticker", "series", "mlp"),
        DataSet("synthetic-series", "generated prices", "series", "mlp", is_generated=True),
        DataSet("multi30k", "30,014 captions in English and German", "translation", "translator"),
        DataSet("opus-books", "51,467 sentences of books in German and English", "translation", "translator"),
        DataSet("wmt14", "4.5 million sentences in German and English", "translation", "translator"),
        DataSet("synthetic-pairs", "generated sentences of two made-up languages", "translation", "translator", is_generated=True),
    )
}
"""Every data set by its name on the command line."""

DATASET_ALIASES: Mapping[str, str] = {
    "synthetic-image": "synthetic-images",
    "synthetic": "synthetic-images",
    "fashionmnist": "fashion-mnist",
    "cifar-10": "cifar10",
    "cifar-100": "cifar100",
    "ag-news": "agnews",
    "sp-500": "sp500",
    "shakespeare": "text-file",
    "tiny-shakespeare": "text-file",
    "opus": "opus-books",
    "wmt": "wmt14",
    "synthetic-translation": "synthetic-pairs",
}
"""Spellings of other projects, with ``_`` as ``-``."""
