"""The heart: who works, who waits, what was decided and whether it helped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.strip import Strip
from textual.widget import Widget

from ..messages import View
from ..sessions.session import Seekable
from ..views.drawing.lines import Piece
from ..views.run.charts import loss_chart, throughput_chart
from ..views.run.decisions import Moment, alert_lines, decision_lines, moments
from ..views.run.head import run_head, time_left
from ..views.run.ranks import RanksLayout, rank_heading, rank_legend, rank_line, rank_order, ranks_layout
from ..widgets.line_canvas import LineCanvas, RowList
from .base_screen import FRAMED, BaseScreen
from .logs import show_logs
from .node import NodeScreen

if TYPE_CHECKING:
    from ..app import PacelineApp


def show_moment(deck: PacelineApp, run_id: str, at: float) -> None:
    """Go to what happened in a run at a moment of the stream; a replay goes to that moment itself."""

    async def go() -> None:
        await deck.action_visit("run", run_id)
        if isinstance(deck.session, Seekable):
            deck.action_seek(f"{at}")
        elif isinstance(deck.screen, RunScreen):
            deck.screen.look_at(at)

    deck.call_later(go)


class RunScreen(BaseScreen):
    """One run, live. Small terminals keep progress, ranks, throughput, the last decision and the worst alert."""

    NAME = "run"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "moment(1)", "next decision or trouble", id="run.next"),
        Binding("N", "moment(-1)", "previous decision or trouble", id="run.previous"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._moment: Moment | None = None
        self._look: tuple[View, int, RanksLayout | None] | None = None
        self._seen: View | None = None

    def body(self) -> Iterable[Widget]:
        yield LineCanvas(run_head, widget_id="head")
        with Vertical(id="ranks") as panel:
            panel.border_title = "ranks"
            yield RowList(self._heading, self._rank)
            yield LineCanvas(self._legend, widget_id="legend")
        with Horizontal(id="middle"):
            yield LineCanvas(self._throughput, "throughput, samples/s", "throughput")
            yield LineCanvas(loss_chart, "loss", "loss")
        yield LineCanvas(self._decisions, "decisions and events", "decisions")
        yield LineCanvas(alert_lines, "alerts", "alerts")

    def show(self, view: View) -> None:
        self._seen = view
        run, height = view.run, self.size.height
        frame = 2 * (height >= FRAMED)
        room = self._room()
        amount = len(run.ranks) if run is not None else 0
        self.query_one("#ranks").styles.height = min(max(amount, 1), room) + 2 + frame
        if frame:
            found = decision_lines(view, max(1, self.size.width - 4), height // 4)
            self.query_one("#decisions").styles.height = max(6, len(found) + 2)
            self.query_one("#alerts").styles.height = min(6, max(3, len(alert_lines(view, 100, 4)) + 2))
        super().show(view)
        self.query_one(RowList).tell(view, rank_order(run, room) if run is not None else ())

    def _room(self) -> int:
        """Ranks that are seen at once."""
        return max(6, self.size.height // 3) - 2

    # Ranks ----------------------------------------------------------------------------------------------------------------------

    def _common(self, view: View, width: int) -> RanksLayout | None:
        """What the lines of the ranks have in common, measured once for all of them."""
        if self._look is None or self._look[0] is not view or self._look[1] != width:
            self._look = (view, width, ranks_layout(view, width))
        return self._look[2]

    def _heading(self, width: int) -> Strip:
        view = self._seen or self.deck.view
        return rank_heading(view, self._common(view, width), width)

    def _rank(self, view: View, key: str, width: int, is_under_cursor: bool) -> Strip:
        seen = self._common(view, width)
        return rank_line(view, seen, key, width, is_under_cursor) if seen is not None else Strip.blank(width)

    def _legend(self, view: View, width: int, height: int) -> Sequence[Strip]:
        amount = len(view.run.ranks) if view.run is not None else 0
        return rank_legend(view, width, amount - self._room())

    def aside(self, view: View) -> Sequence[Piece]:
        return time_left(view)

    def on_rows_chosen(self, message: RowList.Chosen) -> None:
        """To what a rank wrote, where that lies here; else to the page of its node."""
        run = self.deck.view.run
        rank = run.ranks.get(int(message.key)) if run is not None else None
        if run is None or rank is None:
            return
        if self.deck.session.logs(run.run_id) is not None:
            show_logs(self.deck, run.run_id, rank.node, rank.rank)
        else:
            self.deck.push_screen(NodeScreen(rank.node))

    # Moments --------------------------------------------------------------------------------------------------------------------

    def _throughput(self, view: View, width: int, height: int) -> Sequence[Strip]:
        return throughput_chart(view, width, height, self._moment.at if self._moment is not None else None)

    def _decisions(self, view: View, width: int, height: int) -> Sequence[Strip]:
        return decision_lines(view, width, height, self._moment.key if self._moment is not None else None)

    def look_at(self, at: float) -> None:
        """Mark what happened then, or last before; stream seconds."""
        view = self.deck.view
        self._moment = next((moment for moment in moments(view.state, view.run) if moment.at <= at), None)
        if self.is_mounted:  # else the first view comes with that
            self.show(view)

    def action_moment(self, steps: int) -> None:
        """Go through what happened, towards now or back from it; a replay goes there itself."""
        view = self._seen or self.deck.view
        if isinstance(self.deck.session, Seekable):
            self._moment = None
            self.deck.action_seek("next" if steps > 0 else "previous")
            return
        found = moments(view.state, view.run)
        if not found:
            self.deck.show_notice("nothing was decided and nothing went wrong so far", "ok")
            return
        keys = [moment.key for moment in found]
        at = keys.index(self._moment.key) if self._moment is not None and self._moment.key in keys else -1
        # Newest stand first: the next one is one up. Where none is looked at, both keys begin with the newest.
        self._moment = found[max(0, min(len(found) - 1, at - steps))] if at >= 0 else found[0]
        self.show(view)
