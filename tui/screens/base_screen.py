"""What all screens share: the bar at the top, the keys or the prompt at the bottom, and the way a view reaches the widgets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.screen import Screen
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Input, Static

from ..messages import StateChanged, View
from ..terminal.format import duration, percent, untrusted
from ..theme import GLYPHS, PALETTE
from ..views.drawing.lines import NONE, Piece, gauge, line
from ..views.jobs import key_bar, top_bar
from ..widgets.line_canvas import LineCanvas, RowList
from ..widgets.prompt import Prompt

if TYPE_CHECKING:
    from paceline.engine.store.state import State

    from ..app import PacelineApp


FRAMED = 34
"""Lines of the terminal from which panels have frames."""
GAUGE = 12
"""Cells of the gauge of a phase."""


def phase_pieces(state: State) -> list[Piece]:
    """What is being prepared, how far that is, and the time it will still take."""
    pieces: list[Piece] = [(f" {GLYPHS['starting']} {untrusted(state.phase)}", PALETTE.text)]
    if state.fraction is not None:
        left = f" · {duration(state.seconds_left)} left" if state.seconds_left is not None else ""
        pieces += [("  ", NONE), *gauge(state.fraction, GAUGE, PALETTE.accent, PALETTE.rest)]
        much = f" · {untrusted(state.detail)}" if state.detail else ""
        pieces.append((f" {percent(state.fraction)}{much}{left}", PALETTE.text))
    return pieces


class BaseScreen(Screen[None]):
    """One screen of the deck. Subclasses say what stands between the bars, and tell it a view."""

    AUTO_FOCUS = "Rows"
    NAME: ClassVar[str] = ""
    KEYS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("command", "command"),
        ("help", "help"),
        ("start", "start"),
        ("pause", "pause"),
        ("cancel", "cancel"),
        ("quit", "quit"),
        ("export", "export"),
        ("picture", "picture"),
    )
    """What the bottom line shows: a binding by its id, and one word for it."""

    @property
    def deck(self) -> PacelineApp:
        """The app, with its own type."""
        return cast("PacelineApp", self.app)

    @property
    def place(self) -> str:
        """The name that the bar at the top marks."""
        return self.NAME

    def compose(self) -> ComposeResult:
        yield LineCanvas(lambda view, width, height: [top_bar(view, self.place, width)], widget_id="top")
        yield from self.body()
        yield Prompt(self.deck.past, self.deck.completions)
        yield LineCanvas(self._bottom, widget_id="bottom")
        yield Static("paceline needs 40x10 to draw", id="tiny", markup=False)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """As the prompt's: its key opens a line at once, but not where something is typed."""
        if action in ("filter", "search") and isinstance(self.focused, Input):
            return False
        return super().check_action(action, parameters)

    def body(self) -> Iterable[Widget]:
        """The widgets between the bars."""
        raise NotImplementedError

    def show(self, view: View) -> None:
        """Tell every sheet; screens with lists tell those too."""
        for sheet in self.query(LineCanvas):
            sheet.tell(view)

    def on_mount(self) -> None:
        self.show(self.deck.view)

    def on_screen_resume(self) -> None:
        self.show(self.deck.view)

    def on_state_changed(self, message: StateChanged) -> None:
        self.show(message.view)

    def listed(self) -> str:
        """The list of this screen as text, rows out of sight too; empty where there is none."""
        return "".join(rows.first().text() for rows in [self.query(RowList)] if rows)

    def _bottom(self, view: View, width: int, height: int) -> Sequence[Strip]:
        notice = self.deck.notice
        if notice is not None:
            return [line(width, (f" {notice.text}", PALETTE.of(notice.severity)))]
        if view.state.phase and not (view.state.waiting is not None and self.NAME == "jobs"):  # a row there says it
            return [line(width, *phase_pieces(view.state))]
        aside = self.aside(view)
        if not aside:
            return [key_bar(self.deck.keys_of(self), width)]
        room = sum(len(text) for text, _ in aside)
        return [Strip.join([key_bar(self.deck.keys_of(self), width - room), line(room, *aside)])]

    def aside(self, view: View) -> Sequence[Piece]:
        """What stands at the right end of the bottom line."""
        return ()
