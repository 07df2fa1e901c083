"""Names by which a script asks for built-in data: what the centre prepares, and what a node looks for below ``PACELINE_DATA``."""

from __future__ import annotations

from ..workloads import WORKLOADS
from ..workloads.datasets import DATASET_ALIASES, DATASETS
from ..workloads.pairs import plain_name

DATA_VARIABLE = "PACELINE_DATA"
"""Environment variable of a rank: a directory with a directory of prepared arrays, or of a person's files, for each name."""


def is_known(name: str) -> bool:
    """Whether built-in data have this name: a data set, an alias of one, or a workload."""
    return name in WORKLOADS or plain_name(name, DATASET_ALIASES) in DATASETS


def known_names() -> str:
    """The names of all built-in data, for an error."""
    return ", ".join(dict.fromkeys([*DATASETS, *WORKLOADS]))
