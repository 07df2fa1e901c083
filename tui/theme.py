"""How Paceline looks: four themes of one accent each, colours that mean something, and a glyph for every state.

Colour is never alone: a state is a glyph and a word too. ``PALETTE`` is what the one terminal of this process wears at the moment,
``suited`` to the colours that it can show.
"""

from __future__ import annotations

from dataclasses import replace

from rich.style import Style
from textual.color import Color
from textual.theme import Theme


def _theme(
    name: str,
    *,
    accent: str,
    ok: str,
    warning: str,
    critical: str,
    ground: tuple[str, str, str],
    text: tuple[str, str, str, str],
    fills: tuple[str, str, str],
    is_dark: bool = True,
) -> Theme:
    """``ground``: background, surface, panel; ``text``: strong, usual, dim, faint; ``fills``: past bars, waiting, rest of a bar."""
    background, surface, panel = ground
    strong, usual, dim, faint = text
    past, wait, rest = fills
    return Theme(
        name=name,
        primary=accent,
        secondary=dim,
        accent=accent,
        foreground=usual,
        background=background,
        surface=surface,
        panel=panel,
        success=ok,
        warning=warning,
        error=critical,
        dark=is_dark,
        variables={
            "border": rest,
            "border-blurred": rest,
            "block-cursor-text-style": "none",
            "input-selection-background": f"{accent} 35%",
            "scrollbar": rest,
            "scrollbar-background": background,
            "scrollbar-hover": faint,
            "strong": strong,
            "dim": dim,
            "faint": faint,
            "past": past,
            "wait": wait,
            "rest": rest,
        },
    )


NIGHT = _theme(
    "night",
    accent="#5cc8c2",
    ok="#8fbf7f",
    warning="#e3a84e",
    critical="#e8686a",
    ground=("#0e1217", "#141a21", "#1c242d"),
    text=("#f2f5f8", "#d5dbe3", "#8593a3", "#586675"),
    fills=("#3a7f7c", "#c98b2c", "#2c3844"),
)
"""Blue-green on near black."""

DAY = _theme(
    "day",
    accent="#00707a",
    ok="#2f6f2a",
    warning="#8a5300",
    critical="#b3202a",
    ground=("#fbfaf7", "#f1efe9", "#e6e3da"),
    text=("#14181d", "#2a3038", "#5c6672", "#88919b"),
    fills=("#6aa8ad", "#b9822f", "#d5d1c6"),
    is_dark=False,
)
"""The same on paper, for bright rooms and projectors."""

SIGNAL = _theme(
    "signal",
    accent="#56b4e9",
    ok="#8fcdf2",
    warning="#f0e442",
    critical="#ff7043",
    ground=("#0d1016", "#141923", "#1d2430"),
    text=("#ffffff", "#dde3ea", "#93a0b0", "#566475"),
    fills=("#2f7fb0", "#d9a400", "#2d3847"),
)
"""Blue, yellow and vermilion after Okabe and Ito (2008): told apart with any colour vision."""

CONTRAST = _theme(
    "contrast",
    accent="#00e5ff",
    ok="#7cff6b",
    warning="#ffd400",
    critical="#ff8a80",
    ground=("#000000", "#000000", "#1a1a1a"),
    text=("#ffffff", "#ffffff", "#d0d0d0", "#a8a8a8"),
    fills=("#00a0b3", "#ffb300", "#6e6e6e"),
)
"""Every word at seven to one or more against black."""

THEMES: dict[str, Theme] = {theme.name: theme for theme in (NIGHT, DAY, SIGNAL, CONTRAST)}
"""By name; the first one is worn unless a person says otherwise."""

_SHADES = {True: ("#121212", "#262626", "#444444"), False: ("#eeeeee", "#dadada", "#bcbcbc")}
"""Of 256 colours, for dark themes and others: surface, panel and the rest of a bar. The nearest to ours would be black or olive."""
_CLEAR = {"night": ("#00d7d7", "#008787"), "day": ("#005f5f", "#5fafaf")}
"""Of 256 colours: accent and past bars whose shades keep their hue."""


def adapted(theme: Theme, colours: str | None) -> Theme:
    """The theme in what a terminal shows: ``truecolor`` or None as it is, ``256``, or ``standard``, the 16 that have names.

    The 16 are named here as IBM's VGA showed them. They look different everywhere: only pairs are used that can be read in the
    palettes of xterm, Linux and GNOME alike.
    """
    if colours == "256":
        surface, panel, rest = _SHADES[theme.dark]
        accent, past = _CLEAR.get(theme.name, (theme.accent, theme.variables["past"]))
        named = {**theme.variables, "border": rest, "border-blurred": rest, "scrollbar": rest, "rest": rest, "past": past}
        return replace(theme, primary=accent or theme.primary, accent=accent, surface=surface, panel=panel, variables=named)
    if colours != "standard":
        return theme
    if theme.dark:
        return _theme(
            theme.name,
            accent="#55ffff",
            ok="#55ffff" if theme.name == "signal" else "#55ff55",
            warning="#ffff55",
            critical="#ff5555",
            ground=("#000000", "#000000", "#000000"),
            text=("#ffffff", "#ffffff", "#aaaaaa", "#555555"),
            fills=("#00aaaa", "#aa5500", "#555555"),
        )
    return _theme(
        theme.name,
        accent="#0000aa",
        ok="#0000aa",
        warning="#aa00aa",
        critical="#aa0000",
        ground=("#ffffff", "#ffffff", "#ffffff"),
        text=("#000000", "#000000", "#555555", "#555555"),
        fills=("#00aaaa", "#aa5500", "#aaaaaa"),
        is_dark=False,
    )


_HUES = (0.50, 0.72, 0.86, 0.60, 0.34, 0.80)
"""Of nodes, in turn; none of them is amber or red, which mean trouble."""


class Palette:
    """Ready styles for segments, of one theme at a time. All are full Style values: one without crashes Textual under NO_COLOR."""

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
    heat: tuple[Style, ...]
    """Of heat maps, from nothing to full: only lightness grows, so that it reads without colour vision."""
    nodes: tuple[Style, ...]
    """Of the names of nodes where lines of many stand together, in turn."""

    def __init__(self, theme: Theme) -> None:
        self.apply(theme)

    def apply(self, theme: Theme) -> None:
        """Become the palette of another theme; whoever draws next draws with it."""
        named = theme.variables
        background = theme.background or "#000000"
        self.text = Style(color=theme.foreground)
        self.strong = Style(color=named["strong"], bold=True)
        self.dim = Style(color=named["dim"])
        self.faint = Style(color=named["faint"])
        self.accent = self.bar = Style(color=theme.accent)
        self.accent_strong = Style(color=theme.accent, bold=True)
        self.ok = Style(color=theme.success)
        self.warning = Style(color=theme.warning)
        self.critical = Style(color=theme.error, bold=True)
        self.bar_past = Style(color=named["past"])
        self.rest = Style(color=named["rest"])
        self.wait = Style(color=named["wait"])
        # Where there is no shade between ground and words, the line is reversed: that can be read if the words can.
        self.cursor = Style(bgcolor=theme.panel) if theme.panel != background else Style(reverse=True)
        self.tab = Style(color=background, bold=True, bgcolor=theme.accent)
        ground = Color.parse(background).blend(Color.parse(theme.primary), 0.3)
        self.ramp = tuple(Style(color=ground.blend(Color.parse(theme.primary), step / 9).hex) for step in range(10))
        self.heat = tuple(
            Style(color=Color.parse(named["rest"]).blend(Color.parse(theme.primary), step / 20).hex) for step in range(21)
        )
        lightness = 0.72 if theme.dark else 0.27
        self.nodes = tuple(Style(color=Color.from_hsl(hue, 0.5, lightness).hex) for hue in _HUES)

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

PALETTE = Palette(NIGHT)
