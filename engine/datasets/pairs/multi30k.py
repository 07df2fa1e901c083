"""Multi30k: 29,000 captions of pictures in English and German, from the hub, JSON lines, or two text files a part.

Source: D. Elliott, S. Frank, K. Sima'an, L. Specia, "Multi30K: Multilingual English-German Image Descriptions", 2016.
"""

from __future__ import annotations

from typing import Any

from ..catalog import DataSource
from ..directory import DataDirectory
from ..source import Request
from .line_files import load_pair_files
from .sentence_pairs import PAIR_OPTIONS


def load(request: Request, directory: DataDirectory) -> dict[str, Any]:
    """int32 [n, length] of both sides; validation is its part of 1,014 pairs."""
    return load_pair_files(data_source, request, directory)


data_source = DataSource(
    "multi30k",
    load,
    PAIR_OPTIONS,
    hub="bentrevett/multi30k",
    formats="Parquet or JSON lines of the hub, or train.de, train.en and so on",
    stand_in="synthetic-pairs",
)
