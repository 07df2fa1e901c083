"""The Experiments screen: progress of every case or trial, the best so far, a time line of the devices, and curves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.strip import Strip
from textual.widget import Widget

from ...messages import View
from ...views.experiments import (
    Board,
    board_heading,
    board_row,
    board_table,
    experiment_curves,
    experiment_lines,
    gantt_lines,
    parse_board,
)
from ...widgets.line_canvas import LineCanvas, RowList
from ..base_screen import PANELS_MIN_LINES, BaseScreen


class ExperimentsScreen(BaseScreen):
    """The newest experiment, or another one that was chosen."""

    NAME = "experiments"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "experiment(-1)", "the experiment before", id="experiments.previous"),
        Binding("right", "experiment(1)", "the experiment after", id="experiments.next"),
    ]
    FOOTER_KEYS: ClassVar[tuple[tuple[str, str], ...]] = (("experiments.next", "experiment"), *BaseScreen.FOOTER_KEYS)

    def compose_body(self) -> Iterable[Widget]:
        self._name = ""
        """The one that was chosen; empty: the newest."""
        self._board: Board | None = None
        yield LineCanvas(self._draw_state, widget_id="state")
        yield RowList(self._draw_heading, self._draw_row)
        with Horizontal(id="course-of-trials"):
            yield LineCanvas(self._draw_gantt, "devices over time", "gantt")
            yield LineCanvas(self._draw_curves, "curves", "experiment-curve")

    def update_view(self, view: View) -> None:
        boards = view.state.experiments
        name = self._name if self._name in boards else next(reversed(boards), "")
        self._board = parse_board(boards.get(name))
        board = self._board
        has_spans, has_curves = board is not None and bool(board.spans), board is not None and bool(board.curves)
        self.query_one("#course-of-trials").display = (has_spans or has_curves) and self.size.height >= PANELS_MIN_LINES
        self.query_one("#gantt").display = has_spans
        is_alone = has_curves and not has_spans
        curve = self.query_one("#experiment-curve")
        curve.styles.display = "block" if is_alone else None  # a stylesheet shows it beside the time line in wide terminals
        if not has_curves:
            curve.styles.display = "none"
        amount = len(board.rows) if board is not None else 0
        self.query_one(RowList).update_rows(view, [str(number) for number in range(amount)])
        super().update_view(view)

    def export_table(self) -> Sequence[Sequence[object]]:
        return board_table(self._board)

    def _draw_state(self, view: View, width: int, height: int) -> Sequence[Strip]:
        return experiment_lines(self._board, len(view.state.experiments), width)

    def _draw_heading(self, width: int) -> Strip:
        return board_heading(self._board, width)

    def _draw_row(self, view: View, key: str, width: int, is_under_cursor: bool) -> Strip:
        return board_row(self._board, key, width, is_under_cursor)

    def _draw_gantt(self, view: View, width: int, height: int) -> Sequence[Strip]:
        return gantt_lines(self._board, width, height)

    def _draw_curves(self, view: View, width: int, height: int) -> Sequence[Strip]:
        return experiment_curves(self._board, width, height)

    def action_experiment(self, step: int) -> None:
        """Show another experiment."""
        names = list(self.host.view.state.experiments)
        if not names:
            return
        now = self._name if self._name in names else names[-1]
        self._name = names[min(max(0, names.index(now) + step), len(names) - 1)]
        self.update_view(self.host.view)
