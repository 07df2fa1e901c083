"""The Run screen: ranks, throughput, loss, decisions with their effect, and alerts of one run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from paceline.engine.jobs.logs.line_index import LineFilter
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.strip import Strip
from textual.widget import Widget

from ..messages import View
from ..sessions.session import Seekable, has_logs
from ..views.drawing.lines import Piece
from ..views.run.charts import loss_chart, run_curves, throughput_chart
from ..views.run.decisions import RunMoment, alert_lines, decision_lines, moments
from ..views.run.head import run_head, time_left
from ..views.run.ranks import RanksLayout, rank_heading, rank_keys, rank_legend, rank_line, rank_table, ranks_layout
from ..widgets.line_canvas import LineCanvas, RowList
from .base_screen import PANELS_MIN_LINES, TALL_MIN_LINES, BaseScreen
from .host import ScreenHost
from .logs import show_logs
from .node import NodeScreen


def show_moment(host: ScreenHost, run_id: str, at: float) -> None:
    """Show what happened in a run at a moment, in stream seconds; a replay seeks to it."""

    async def show() -> None:
        await host.action_visit("run", run_id)
        if isinstance(host.session, Seekable):
            host.action_seek(f"{at}")
        elif isinstance(host.screen, RunScreen):
            host.screen.select_moment(at)

    host.call_later(show)


class RunScreen(BaseScreen):
    """One run. Small terminals show progress, ranks, throughput, the last decision and the worst alert."""

    NAME = "run"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "moment(1)", "next decision or trouble", id="run.next"),
        Binding("N", "moment(-1)", "previous decision or trouble", id="run.previous"),
    ]

    FOOTER_KEYS = (
        ("command", "command"),
        ("run.next", "events"),
        ("cancel", "cancel"),
        ("resume", "resume"),
        ("list.choose", "log"),
        ("help", "help"),
        ("quit", "quit"),
        ("start", "start"),
        ("pause", "pause"),
        ("picture", "picture"),
    )

    def __init__(self) -> None:
        super().__init__()
        self._moment: RunMoment | None = None
        self._measured_layout: tuple[View, int, RanksLayout | None] | None = None
        self._view: View | None = None

    def compose_body(self) -> Iterable[Widget]:
        yield LineCanvas(run_head, widget_id="head")
        with Vertical(id="ranks") as panel:
            panel.border_title = "ranks"
            yield RowList(self._draw_heading, self._draw_rank)
            yield LineCanvas(self._draw_legend, widget_id="legend")
        with Horizontal(id="middle"):
            yield LineCanvas(self._draw_throughput, "throughput, samples/s", "throughput")
            yield LineCanvas(loss_chart, "loss", "loss")
        yield LineCanvas(self._draw_decisions, "decisions and events", "decisions")
        yield LineCanvas(alert_lines, "alerts", "alerts")

    def update_view(self, view: View) -> None:
        self._view = view
        run, height = view.run, self.size.height
        border_lines = 2 * (height >= TALL_MIN_LINES)
        room = self._visible_ranks()
        rank_count = len(run.ranks) if run is not None else 0
        self.query_one("#ranks").styles.height = min(max(rank_count, 1), room) + 2 + border_lines
        self.query_one("#middle").display = height >= PANELS_MIN_LINES
        if border_lines:
            decisions = decision_lines(view, max(1, self.size.width - 4), height // 4)
            self.query_one("#decisions").styles.height = max(6, len(decisions) + 2)
            self.query_one("#alerts").styles.height = min(6, max(3, len(alert_lines(view, 100, 4)) + 2))
        super().update_view(view)
        self.query_one(RowList).update_rows(view, rank_keys(run, room) if run is not None else ())

    def _visible_ranks(self) -> int:
        """Number of ranks that are visible at once."""
        return max(6, self.size.height // 3) - 2

    # Ranks ----------------------------------------------------------------------------------------------------------------------

    def _ranks_layout(self, view: View, width: int) -> RanksLayout | None:
        """The common layout of all rank lines, computed once for a view and width."""
        if self._measured_layout is None or self._measured_layout[0] is not view or self._measured_layout[1] != width:
            self._measured_layout = (view, width, ranks_layout(view, width))
        return self._measured_layout[2]

    def _draw_heading(self, width: int) -> Strip:
        view = self._view or self.host.view
        return rank_heading(view, self._ranks_layout(view, width), width)

    def _draw_rank(self, view: View, key: str, width: int, is_under_cursor: bool) -> Strip:
        layout = self._ranks_layout(view, width)
        return rank_line(view, layout, key, width, is_under_cursor) if layout is not None else Strip.blank(width)

    def _draw_legend(self, view: View, width: int, height: int) -> Sequence[Strip]:
        amount = len(view.run.ranks) if view.run is not None else 0
        return rank_legend(view, width, amount - self._visible_ranks())

    def export_table(self) -> Sequence[Sequence[object]]:
        return rank_table(self.host.view.run)

    def export_curves(self) -> Sequence[Sequence[object]]:
        return run_curves(self.host.view.run)

    def bottom_right(self, view: View) -> Sequence[Piece]:
        return time_left(view)

    def on_row_list_selected(self, message: RowList.Selected) -> None:
        """Open the log of a rank where it is available, else the page of its node."""
        run = self.host.view.run
        rank = run.ranks.get(int(message.key)) if run is not None else None
        if run is None or rank is None:
            return
        if has_logs(self.host.session, run.run_id):
            show_logs(self.host, run.run_id, LineFilter(rank.node, rank.rank))
        else:
            self.app.push_screen(NodeScreen(rank.node))

    # Moments --------------------------------------------------------------------------------------------------------------------

    def _draw_throughput(self, view: View, width: int, height: int) -> Sequence[Strip]:
        return throughput_chart(view, width, height, self._moment.at if self._moment is not None else None)

    def _draw_decisions(self, view: View, width: int, height: int) -> Sequence[Strip]:
        return decision_lines(view, width, height, self._moment.key if self._moment is not None else None)

    def select_moment(self, at: float) -> None:
        """Select the last thing that happened up to a time in stream seconds."""
        view = self.host.view
        self._moment = next((moment for moment in moments(view.state, view.run) if moment.at <= at), None)
        if self.is_mounted:  # else mounting draws the view
            self.update_view(view)

    def action_moment(self, steps: int) -> None:
        """Select the next newer (1) or older (-1) moment; a replay seeks to it."""
        view = self._view or self.host.view
        if isinstance(self.host.session, Seekable):
            self._moment = None
            self.host.action_seek("next" if steps > 0 else "previous")
            return
        run_moments = moments(view.state, view.run)
        if not run_moments:
            self.host.show_notice("nothing was decided and nothing went wrong so far", "ok")
            return
        keys = [moment.key for moment in run_moments]
        at = keys.index(self._moment.key) if self._moment is not None and self._moment.key in keys else -1
        # Newest first: the next newer one is one up. Without a selection both keys start at the newest.
        self._moment = run_moments[max(0, min(len(run_moments) - 1, at - steps))] if at >= 0 else run_moments[0]
        self.update_view(view)
