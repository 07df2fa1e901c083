"""Themes: text is legible, and states are distinguishable with any colour vision."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from paceline.tui.theme import GLYPHS, PALETTE, THEMES, Palette, adapt_theme
from rich.color import Color as Shown
from rich.color import ColorSystem
from rich.palette import Palette as Colours
from textual.color import Color
from textual.theme import Theme

# Full dichromacy in linear RGB, after Machado, Oliveira and Fernandes (2009).
VISION = {
    "usual": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}

NAMED = {
    "xterm": "000000 cd0000 00cd00 cdcd00 0000ee cd00cd 00cdcd e5e5e5 7f7f7f ff0000 00ff00 ffff00 5c5cff ff00ff 00ffff ffffff",
    "linux": "000000 aa0000 00aa00 aa5500 0000aa aa00aa 00aaaa aaaaaa 555555 ff5555 55ff55 ffff55 5555ff ff55ff 55ffff ffffff",
    "gnome": "000000 cc0000 4e9a06 c4a000 3465a4 75507b 06989a d3d7cf 555753 ef2929 8ae234 fce94f 729fcf ad7fa8 34e2e2 eeeeec",
}
"""The 16 named colours as three terminals show them."""


def linear(colour: Color) -> tuple[float, ...]:
    return tuple(c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour.normalized)


def lab(rgb: tuple[float, ...]) -> tuple[float, float, float]:
    """CIE L*a*b* of linear sRGB, white D65."""
    r, g, b = (min(1.0, max(0.0, c)) for c in rgb)
    xyz = (
        (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505,
        0.2126 * r + 0.7152 * g + 0.0722 * b,
        (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089,
    )
    x, y, z = (c ** (1 / 3) if c > 0.008856 else 7.787 * c + 16 / 116 for c in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def difference(one: str, other: str, vision: str) -> float:
    """CIE 1976 colour difference under a colour vision; about 2 is just noticeable."""
    colours_seen = []
    for name in (one, other):
        rgb = linear(Color.parse(name))
        colours_seen.append(lab(tuple(sum(a * c for a, c in zip(row, rgb, strict=True)) for row in VISION[vision])))
    return float(sum((a - b) ** 2 for a, b in zip(*colours_seen, strict=True)) ** 0.5)


def contrast(one: str, other: str) -> float:
    """Contrast of two colours after WCAG 2, from 1 to 21."""
    lights = []
    for name in (one, other):
        r, g, b = linear(Color.parse(name))
        lights.append(0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05)
    return max(lights) / min(lights)


def text_colours(theme: Theme) -> dict[str, str]:
    named = {
        "text": theme.foreground,
        "accent": theme.accent,
        "ok": theme.success,
        "warning": theme.warning,
        "critical": theme.error,
    }
    return {name: str(colour) for name, colour in named.items()} | {"dim": theme.variables["dim"]}


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_every_text_colour_is_legible_on_its_background(theme: Theme) -> None:
    minimum = 7.0 if theme.name == "contrast" else 4.5
    colours = text_colours(theme) | {f"node {n}": style.color.name for n, style in enumerate(Palette(theme).nodes) if style.color}
    contrasts = {name: contrast(colour, str(theme.background)) for name, colour in colours.items()}
    assert {name: round(light, 1) for name, light in contrasts.items() if light < minimum} == {}


def degraded(colour: str, colours: str, terminal: str) -> str:
    """A colour as a terminal with fewer colours shows it."""
    sent = Shown.parse(colour).downgrade(ColorSystem.EIGHT_BIT if colours == "256" else ColorSystem.STANDARD)
    if colours == "256":
        return sent.get_truecolor().hex
    table = [(red, green, blue) for red, green, blue in map(bytes.fromhex, NAMED[terminal].split())]
    return "#{:02x}{:02x}{:02x}".format(*Colours(table)[sent.number or 0])


@pytest.mark.parametrize(("colours", "terminal"), [("256", ""), *(("standard", name) for name in NAMED)])
@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_every_text_colour_is_legible_in_fewer_colours(theme: Theme, colours: str, terminal: str) -> None:
    adapted = adapt_theme(theme, colours)
    grounds = {degraded(str(ground), colours, terminal) for ground in (adapted.background, adapted.surface, adapted.panel)}
    shown = {name: degraded(colour, colours, terminal) for name, colour in text_colours(adapted).items()}
    for number, style in enumerate(Palette(adapted).nodes):
        assert style.color is not None
        shown[f"node {number}"] = degraded(style.color.name, colours, terminal)
    contrasts = {name: min(contrast(colour, ground) for ground in grounds) for name, colour in shown.items()}
    assert {name: round(found, 1) for name, found in contrasts.items() if found < 3.0} == {}


@pytest.mark.parametrize(("colours", "terminal"), [("256", ""), *(("standard", name) for name in NAMED)])
@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_warning_and_critical_stay_distinct_in_fewer_colours(theme: Theme, colours: str, terminal: str) -> None:
    adapted = adapt_theme(theme, colours)
    shown = {name: degraded(colour, colours, terminal) for name, colour in text_colours(adapted).items()}
    assert len({shown[name] for name in ("text", "dim", "accent", "warning", "critical")}) == 5
    assert difference(shown["warning"], shown["critical"], "usual") > 25


@pytest.mark.parametrize("colours", ["256", "standard"])
@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_the_line_under_the_cursor_stands_out_in_fewer_colours(theme: Theme, colours: str) -> None:
    adapted = adapt_theme(theme, colours)
    grounds = [degraded(str(ground), colours, "xterm") for ground in (adapted.background, adapted.panel)]
    assert grounds[0] != grounds[1] or Palette(adapted).cursor.reverse


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_faint_lines_are_visible(theme: Theme) -> None:
    assert contrast(theme.variables["faint"], str(theme.background)) >= 3.0


@pytest.mark.parametrize("vision", VISION)
def test_states_are_distinguishable_with_any_colour_vision(vision: str) -> None:
    colours = text_colours(THEMES["signal"])
    states = {name: colours[name] for name in ("ok", "warning", "critical")}
    near = {(a, b): difference(states[a], states[b], vision) for a, b in combinations(states, 2)}
    assert {pair: round(value) for pair, value in near.items() if value < 25} == {}


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_heat_grows_evenly_in_lightness(theme: Theme) -> None:
    palette = Palette(theme)
    lights = [lab(linear(Color.parse(style.color.name)))[0] for style in palette.heat if style.color is not None]
    steps = [b - a for a, b in pairwise(lights)]
    assert len(lights) == 21
    assert all(step > 0 for step in steps) or all(step < 0 for step in steps)


def test_every_state_has_a_glyph_of_its_own() -> None:
    worst = ("ok", "warning", "critical", "stale", "connecting", "running", "cancelled", "waiting")
    assert len({GLYPHS[state] for state in worst}) == len(worst)


def test_a_theme_applies_to_everything_drawn_after_it() -> None:
    before = PALETTE.text
    PALETTE.apply(THEMES["day"])
    try:
        assert PALETTE.text != before
    finally:
        PALETTE.apply(THEMES["night"])
    assert PALETTE.text == before
