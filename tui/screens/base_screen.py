"""The base of all screens: top bar, bottom bar with keys or prompt, and the path of a view to the widgets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, cast

from textual.app import ComposeResult
from textual.screen import Screen
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Input, Static

from ..messages import StateChanged, View
from ..theme import PALETTE
from ..views.bars import key_bar, phase_pieces, top_bar
from ..views.caption import caption_lines, caption_rows
from ..views.drawing.lines import Piece, line
from ..views.timeline import timeline
from ..widgets.line_canvas import LineCanvas, RowList
from ..widgets.prompt import Prompt
from .host import ScreenHost

TALL_MIN_LINES = 34
"""Height of the terminal from which panels have frames and margins: Textual's class ``-tall``."""

CAPTION_MIN_LINES = 14
"""Height of the terminal below which a caption would take the lines of what it is about."""
PANELS_MIN_LINES = 19
"""Height of the terminal from which charts and secondary panels are drawn; below, lists and alerts keep their lines."""


class BaseScreen(Screen[None]):
    """A screen between the two bars. Subclasses compose the body and pass each new view to their lists."""

    AUTO_FOCUS = "RowList"
    NAME: ClassVar[str] = ""
    FOOTER_KEYS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("command", "command"),
        ("help", "help"),
        ("start", "start"),
        ("pause", "pause"),
        ("cancel", "cancel"),
        ("quit", "quit"),
        ("export", "export"),
        ("picture", "picture"),
    )
    """Keys in the bottom bar: the id of a binding and one word for it."""

    @property
    def host(self) -> ScreenHost:
        """The app, under the type that names what screens need of it."""
        return cast("ScreenHost", self.app)

    @property
    def tab(self) -> str:
        """Name of the screen that the top bar marks as current."""
        return self.NAME

    def compose(self) -> ComposeResult:
        yield LineCanvas(lambda view, width, height: [top_bar(view, self.tab, width)], widget_id="top")
        yield from self.compose_body()
        yield LineCanvas(lambda view, width, height: caption_lines(view, self.tab, width), widget_id="caption")
        yield Prompt(self.host.history, self.host.completions)
        yield LineCanvas(self._draw_bottom_bar, widget_id="bottom")
        yield Static("paceline needs 40x10 to draw", id="tiny", markup=False)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Ignore the keys of filter and search while an input has the focus; they are priority bindings."""
        if action in ("filter", "search") and isinstance(self.focused, Input):
            return False
        return super().check_action(action, parameters)

    def compose_body(self) -> Iterable[Widget]:
        """The widgets between the bars."""
        raise NotImplementedError

    def update_view(self, view: View) -> None:
        """Draw a view: updates every canvas; screens with lists override this to update those too."""
        for canvas in self.query(LineCanvas):
            canvas.update_view(view)

    def on_mount(self) -> None:
        self._show(self.host.view)

    def on_screen_resume(self) -> None:
        self._show(self.host.view)

    def on_state_changed(self, message: StateChanged) -> None:
        self._show(message.view)

    def on_resize(self) -> None:
        self._fit_caption(self.host.view)

    def _show(self, view: View) -> None:
        self._fit_caption(view)
        self.update_view(view)

    def _fit_caption(self, view: View) -> None:
        """Give the caption of a demo session the lines that it needs; without one it takes none."""
        rows = len(caption_rows(view, self.tab, self.size.width)) if self.size.height >= CAPTION_MIN_LINES else 0
        for caption in self.query("#caption"):
            caption.display = rows > 0
            caption.styles.height = max(1, rows)

    def export_text(self) -> str:
        """The list of this screen as text, including rows out of sight; empty where there is none."""
        return "".join(rows.first().export_text() for rows in [self.query(RowList)] if rows)

    def export_table(self) -> Sequence[Sequence[object]]:
        """The list as data, a heading first, including rows out of sight; empty where the screen has no such list."""
        return ()

    def export_curves(self) -> Sequence[Sequence[object]]:
        """The charts as data, a heading first; empty where the screen has none."""
        return ()

    def _draw_bottom_bar(self, view: View, width: int, height: int) -> Sequence[Strip]:
        notice = self.host.notice
        if notice is not None:
            return [line(width, (f" {notice.text}", PALETTE.state_style(notice.severity)))]
        if view.replay is not None:
            return [timeline(view, width, self.bottom_right(view))]
        if view.state.phase and not (view.state.waiting is not None and self.NAME == "jobs"):  # a row there shows it
            return [line(width, *phase_pieces(view.state))]
        aside = self.bottom_right(view)
        if not aside:
            return [key_bar(self.host.keys_of(self), width)]
        room = sum(len(text) for text, _ in aside)
        return [Strip.join([key_bar(self.host.keys_of(self), width - room), line(room, *aside)])]

    def bottom_right(self, view: View) -> Sequence[Piece]:
        """Pieces at the right end of the bottom bar."""
        return ()
