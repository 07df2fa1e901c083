"""WMT14: 4.5 million sentences in German and English, streamed from the hub while shards are written, or from files.

Source: O. Bojar et al., "Findings of the 2014 Workshop on Statistical Machine Translation", 2014.
"""

from __future__ import annotations

from typing import Any

from ..catalog import DataSource
from ..directory import DataDirectory
from ..source import Request
from .line_files import load_pair_files
from .sentence_pairs import PAIR_OPTIONS


def load(request: Request, directory: DataDirectory) -> dict[str, Any]:
    """int32 [n, length] of both sides; validation is its part of 3,000 pairs."""
    return load_pair_files(data_source, request, directory, is_streamed=True)


data_source = DataSource(
    "wmt14",
    load,
    PAIR_OPTIONS | {"train": 1_000_000, "vocabulary": 16_000, "shard_mb": 256},
    hub="wmt/wmt14",
    configuration="de-en",
    formats="Parquet or JSON lines of the hub, or train.de, train.en and so on",
    stand_in="synthetic-pairs",
)
