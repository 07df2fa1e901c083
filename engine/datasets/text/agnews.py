"""AG News: 127,600 short news in four topics, from the hub, Parquet, JSON lines, or CSV of class, title and description.

Source: X. Zhang, J. Zhao, Y. LeCun, "Character-level Convolutional Networks for Text Classification", 2015.
"""

from __future__ import annotations

from typing import Any

from ..catalog import DataSource
from ..directory import DataDirectory
from ..parts import find_data
from ..source import Request
from .classified import TEXT_OPTIONS, TextColumns, load_texts
from .news import TOPICS

CSV_COLUMNS = ("Class Index", "Title", "Description")
"""The columns of its CSV files, which mostly have no header."""
_COLUMNS = TextColumns(
    ("text", "Title+Description", "title+description"),
    ("label", "Class Index", "class", "Class"),
    TOPICS,
    {"Class Index": 1, "class": 1, "Class": 1},
)


def load(request: Request, directory: DataDirectory) -> dict[str, Any]:
    """int32 [n, length] and int64 [n], topics from 0 to 3; validation is the test part of 7,600."""

    def headerless(cells: list[str]) -> bool:
        return len(cells) == len(CSV_COLUMNS) and cells[0].strip().isdigit()

    found = find_data(data_source, request, directory, columns=CSV_COLUMNS, headerless=headerless)
    return load_texts(data_source, _COLUMNS, found, request, directory)


data_source = DataSource(
    "agnews",
    load,
    TEXT_OPTIONS,
    hub="fancyzhx/ag_news",
    formats="Parquet, JSON lines, or CSV of class,title,description",
    stand_in="synthetic-text",
)
