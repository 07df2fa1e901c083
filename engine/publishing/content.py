"""What a report holds, before any format: sentences, tables and charts. Every figure knows the file and field it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

UNKNOWN_TEXT = "—"


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table."""

    text: str
    value: float | str | None = None
    """The figure behind the text, unrounded."""
    source: str = ""
    """Where it stands: a file, ``#`` and the path of a field; several are joined by `` + ``. Empty: words."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first ``text_columns`` are words."""

    name: str
    """Name of its file, without an ending."""
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    text_columns: int = 1
    note: str = ""
    """What its terms mean."""


@dataclass(frozen=True, slots=True)
class Series:
    """One curve or one set of bars."""

    name: str
    xs: tuple[float | str, ...]
    ys: tuple[float | None, ...]
    errors: tuple[float | None, ...] = ()
    """Half-widths of intervals, as long as ``ys``; empty: none."""
    sources: tuple[str, ...] = ()
    """Where each of the ``ys`` stands."""
    is_ideal: bool = False
    """Whether it is a reference to compare with, drawn dashed."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture: ``bars`` over words, ``stacked`` bars, ``lines`` or ``steps`` over numbers."""

    name: str
    title: str
    kind: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    marks: tuple[tuple[float, str], ...] = ()
    """Vertical lines over the x axis, with their words."""
    negative_below: float | None = None
    """Below this y a zone is shaded and called negative scaling."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """A whole report."""

    title: str
    summary: tuple[str, ...]
    """Sentences: what was asked, what was found, why, what to do."""
    tables: tuple[Table, ...] = ()
    charts: tuple[Chart, ...] = ()
    sources: tuple[tuple[str, str], ...] = ()
    """Name and directory of each run or experiment that it was made of."""
    notes: tuple[str, ...] = field(default=())
    """What limits the figures, such as emulated devices."""


def words(text: str) -> Cell:
    """A cell of words."""
    return Cell(text, text)


def figure(value: float | None, form: str, source: str, error: float | None = None, deviation: float | None = None) -> Cell:
    """A figure with its 95 % interval and standard deviation where they are known; a dash where it is unknown.

    ``form``: as for ``format``, with ``%`` for a fraction, and words behind it, such as ``.2f x``.
    """
    if value is None:
        return Cell(UNKNOWN_TEXT, None, source)
    spec, _, unit = form.partition(" ")
    text = format(value, spec)
    if error is not None:
        text += f" ± {format(error, spec)}"
    if deviation is not None:
        text += f" (sd {format(deviation, spec)})"
    return Cell(text + (unit and f" {unit}"), value, source)


def joined(sources: Sequence[str]) -> str:
    """The sources of a figure that was computed of several fields."""
    return " + ".join(dict.fromkeys(sources))
