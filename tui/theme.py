"""The look of Paceline: four themes with one accent each, colours with a fixed meaning, and a glyph for every state.

No state is shown by colour alone: a glyph and a word stand beside it. ``PALETTE`` holds the styles of the theme in use, reduced by
``adapt_theme`` to the colours that the terminal can show.
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
    """``ground``: background, surface, panel; ``text``: strong, normal, dim, faint; ``fills``: past bars, waiting, unfilled part of
    a bar."""
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
"""Blue-green on paper white, for bright rooms and projectors."""

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
"""Blue, yellow and vermilion after Okabe and Ito (2008): distinguishable with any colour vision."""

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
"""Every text colour has a contrast of at least 7:1 against black."""

THEMES: dict[str, Theme] = {theme.name: theme for theme in (NIGHT, DAY, SIGNAL, CONTRAST)}
"""By name; the first one is the default."""

_GROUNDS_256 = {True: ("#121212", "#262626", "#444444"), False: ("#eeeeee", "#dadada", "#bcbcbc")}
"""Surface, panel and unfilled bars for terminals of 256 colours, by ``Theme.dark``. The nearest of the 256 to the themes' own
values would be black or olive."""
_ACCENTS_256 = {"night": ("#00d7d7", "#008787"), "day": ("#005f5f", "#5fafaf")}
"""Accent and past bars for terminals of 256 colours: the nearest of the 256 to the themes' own values would have another hue."""


def adapt_theme(theme: Theme, colours: str | None) -> Theme:
    """The theme in the colours that a terminal can show: ``truecolor`` or None returns it unchanged, ``256`` and ``standard`` (the
    16 named colours) replace its colours.

    The 16 are written here as IBM's VGA showed them. Every terminal shows them differently: only pairs are used that are legible in
    the palettes of xterm, Linux and GNOME alike.
    """
    if colours == "256":
        surface, panel, rest = _GROUNDS_256[theme.dark]
        accent, past = _ACCENTS_256.get(theme.name, (theme.accent, theme.variables["past"]))
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


_NODE_HUES = (0.50, 0.72, 0.86, 0.60, 0.34, 0.80)
"""Hues of node names, assigned in turn; none of them is amber or red, which mean trouble."""


class Palette:
    """Styles of one theme, ready for segments. Every one is a Style, never None: Textual crashes on None under NO_COLOR."""

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
    """Colours of filled curves, from the lowest row up."""
    heat: tuple[Style, ...]
    """Colours of heat maps, from 0 to 100 %: only lightness grows, so that they read without colour vision."""
    nodes: tuple[Style, ...]
    """Colours of node names in lists that mix lines of many nodes, assigned in turn."""

    def __init__(self, theme: Theme) -> None:
        self.apply(theme)

    def apply(self, theme: Theme) -> None:
        """Switch to another theme; everything drawn from now on uses it."""
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
        # Where no shade lies between background and text, the line is reversed: legible wherever the text is.
        self.cursor = Style(bgcolor=theme.panel) if theme.panel != background else Style(reverse=True)
        self.tab = Style(color=background, bold=True, bgcolor=theme.accent)
        ground = Color.parse(background).blend(Color.parse(theme.primary), 0.3)
        self.ramp = tuple(Style(color=ground.blend(Color.parse(theme.primary), step / 9).hex) for step in range(10))
        self.heat = tuple(
            Style(color=Color.parse(named["rest"]).blend(Color.parse(theme.primary), step / 20).hex) for step in range(21)
        )
        lightness = 0.72 if theme.dark else 0.27
        self.nodes = tuple(Style(color=Color.from_hsl(hue, 0.5, lightness).hex) for hue in _NODE_HUES)

    def state_style(self, state: str) -> Style:
        """The style of a state's glyph and word."""
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
    "queued": "·",
    "measuring": "◇",
}
"""Glyphs of the states; the word of the state always stands beside its glyph."""

PALETTE = Palette(NIGHT)
