"""How Paceline looks: one accent, colours that mean something, and a glyph for every state so that colour is never alone."""

from __future__ import annotations

from dataclasses import dataclass

from rich.style import Style
from textual.color import Color
from textual.theme import Theme

NIGHT = Theme(
    name="paceline",
    primary="#5cc8c2",
    secondary="#7d8fa9",
    accent="#5cc8c2",
    foreground="#d5dbe3",
    background="#0e1217",
    surface="#141a21",
    panel="#1c242d",
    success="#8fbf7f",
    warning="#e3a84e",
    error="#e8686a",
    dark=True,
    variables={
        "border": "#2c3844",
        "border-blurred": "#2c3844",
        "block-cursor-text-style": "none",
        "input-selection-background": "#5cc8c2 35%",
        "scrollbar": "#26303a",
        "scrollbar-background": "#0e1217",
        "scrollbar-hover": "#35424f",
    },
)
"""Blue-green for what works, amber and a bright glyph for trouble: told apart with any colour vision, and without colour."""


@dataclass(frozen=True, slots=True)
class Palette:
    """Ready styles for segments. All are full Style values: a segment without one crashes Textual under NO_COLOR."""

    text: Style
    strong: Style
    dim: Style
    faint: Style
    accent: Style
    accent_strong: Style
    ok: Style
    warning: Style
    critical: Style
    bar: Style
    bar_past: Style
    rest: Style
    wait: Style
    cursor: Style
    tab: Style
    ramp: tuple[Style, ...]
    """Of filled curves, from the ground up."""

    def of(self, state: str) -> Style:
        """The colour of a state's word."""
        return {
            "ok": self.ok,
            "done": self.ok,
            "running": self.accent,
            "connecting": self.dim,
            "starting": self.dim,
            "stale": self.warning,
            "unreachable": self.warning,
            "cancelled": self.warning,
            "warning": self.warning,
            "lost": self.critical,
            "refused": self.critical,
            "failed": self.critical,
            "critical": self.critical,
        }.get(state, self.text)


GLYPHS = {
    "ok": "●",
    "done": "✔",
    "running": "▶",
    "starting": "↻",
    "connecting": "↻",
    "stale": "◌",
    "unreachable": "◌",
    "cancelled": "■",
    "warning": "▲",
    "lost": "✖",
    "refused": "✖",
    "failed": "✖",
    "critical": "✖",
    "waiting": "·",
    "measuring": "◇",
}
"""State as a sign; its word always stands beside it."""


def _palette(theme: Theme) -> Palette:
    def style(colour: str | None, *, bold: bool = False, background: str | None = None) -> Style:
        return Style(color=colour, bold=bold, bgcolor=background)

    return Palette(
        text=style(theme.foreground),
        strong=style("#f2f5f8", bold=True),
        dim=style("#8593a3"),
        faint=style("#4a5765"),
        accent=style(theme.accent),
        accent_strong=style(theme.accent, bold=True),
        ok=style(theme.success),
        warning=style(theme.warning),
        critical=style(theme.error, bold=True),
        bar=style(theme.accent),
        bar_past=style("#3a7f7c"),
        rest=style("#26303a"),
        wait=style("#c98b3c"),
        cursor=style(None, background="#202b36"),
        tab=style("#0e1217", bold=True, background=theme.accent),
        ramp=tuple(style(Color.parse("#1f4a4c").blend(Color.parse(theme.primary), step / 9).hex) for step in range(10)),
    )


PALETTE = _palette(NIGHT)
