"""The table people came for."""

from __future__ import annotations

from collections.abc import Iterable

from textual.containers import VerticalScroll
from textual.widget import Widget

from ..messages import View
from ..widgets.result_rows import result_lines
from ..widgets.run_charts import throughput_chart
from ..widgets.sheet import Sheet
from .deck import Deck

LONGEST = 10_000
"""Lines a table may have."""


class ResultsScreen(Deck):
    """The result of the run in hand, or its cases so far."""

    NAME = "results"

    def body(self) -> Iterable[Widget]:
        with VerticalScroll(id="page"):
            yield Sheet(result_lines, widget_id="results")
        yield Sheet(throughput_chart, "throughput over the run, samples/s", "course")

    def show(self, view: View) -> None:
        sheet = self.query_one("#results")
        sheet.styles.height = len(result_lines(view, max(1, sheet.size.width), LONGEST))
        super().show(view)
