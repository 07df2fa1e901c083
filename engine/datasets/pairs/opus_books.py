"""OPUS Books: 51,467 sentences of novels in German and English, from the hub, Parquet, JSON lines, or two text files.

Source: J. Tiedemann, "Parallel Data, Tools and Interfaces in OPUS", 2012.
"""

from __future__ import annotations

from typing import Any

from ..catalog import DataSource
from ..directory import DataDirectory
from ..source import Request
from .line_files import load_pair_files
from .sentence_pairs import PAIR_OPTIONS


def load(request: Request, directory: DataDirectory) -> dict[str, Any]:
    """int32 [n, length] of both sides; it has one part only, of which one pair of 20 is to judge by."""
    return load_pair_files(data_source, request, directory)


data_source = DataSource(
    "opus-books",
    load,
    PAIR_OPTIONS,
    hub="Helsinki-NLP/opus_books",
    configuration="de-en",
    formats="Parquet or JSON lines of the hub, or train.de, train.en and so on",
    stand_in="synthetic-pairs",
)
