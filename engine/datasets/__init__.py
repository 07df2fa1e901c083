"""Loaders and preparation: ``prepare`` turns a source into .npy files and a manifest."""

from .preparation import PREPARATION_STEPS, prepare, prepare_dataset
from .source import Columns

__all__ = ["PREPARATION_STEPS", "Columns", "prepare", "prepare_dataset"]
