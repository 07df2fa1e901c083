"""The heart: who works, who waits, what was decided and whether it helped."""

from __future__ import annotations

from collections.abc import Iterable

from textual.containers import Horizontal
from textual.widget import Widget

from ..messages import View
from ..widgets.decision_rows import alert_lines, decision_lines
from ..widgets.rank_rows import rank_lines
from ..widgets.run_charts import loss_chart, throughput_chart
from ..widgets.run_head import run_head
from ..widgets.sheet import Sheet
from .deck import Deck


class RunScreen(Deck):
    """One run, live. Small terminals keep progress, ranks, throughput, the last decision and the worst alert."""

    NAME = "run"

    def body(self) -> Iterable[Widget]:
        yield Sheet(run_head, widget_id="head")
        yield Sheet(rank_lines, "ranks", "ranks")
        with Horizontal(id="middle"):
            yield Sheet(throughput_chart, "throughput, samples/s", "throughput")
            yield Sheet(loss_chart, "training loss", "loss")
        yield Sheet(decision_lines, "decisions", "decisions")
        yield Sheet(alert_lines, "alerts", "alerts")

    def show(self, view: View) -> None:
        amount = len(view.run.ranks) if view.run is not None else 0
        self.query_one("#ranks").styles.height = min(max(amount, 1) + 2, max(6, self.size.height // 3)) + 2 * (
            self.size.height >= 34
        )
        super().show(view)
