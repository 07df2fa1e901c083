"""Charts as PNG at 300 dpi, SVG and PDF, drawn by matplotlib without a screen.

Colours: the palette of M. Okabe and K. Ito (2008), which colour-blind readers can tell apart; series differ by marker or hatch too.
"""

from __future__ import annotations

import io
from typing import Any

from ..errors import UsageError
from .content import Chart, Series

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
POINT_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
HATCHES = ("", "//", "..", "xx", "\\\\", "--", "++", "oo")
DOTS_PER_INCH = 300
MAX_LABELLED_POINTS = 16
"""Points of a curve that carry their values."""


def draw(chart: Chart, ending: str) -> bytes:
    """The picture as ``png``, ``svg`` or ``pdf``. Raises UsageError where matplotlib is missing."""
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError("charts need matplotlib", hint="pip install 'paceline[reports]', or --formats md,html,csv,latex") from None
    settings: Any = {
        "svg.hashsalt": chart.name,
        "pdf.compression": 6,
        "font.size": 10,
        "text.parse_math": False,
        "svg.fonttype": "none",
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(7.0, 4.2), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        _PAINTERS[chart.kind](axes, chart)
        axes.set_title(chart.title)
        axes.set_xlabel(chart.x_label)
        axes.set_ylabel(chart.y_label)
        axes.spines[["top", "right"]].set_visible(False)
        if len(chart.series) > 1:
            axes.legend(frameon=False, fontsize=8)
        file = io.BytesIO()
        dates: dict[str, Any] = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None, "ModDate": None}}
        figure.savefig(file, format=ending, dpi=DOTS_PER_INCH, metadata=dates[ending])
    return file.getvalue()


def _bars(axes: Any, chart: Chart) -> None:
    """Bars side by side, with values above and error bars."""
    names = list(dict.fromkeys(str(x) for series in chart.series for x in series.xs))
    width = 0.8 / len(chart.series)
    for index, series in enumerate(chart.series):
        known = [
            (names.index(str(x)), y, place) for place, (x, y) in enumerate(zip(series.xs, series.ys, strict=True)) if y is not None
        ]
        at = [place + (index - (len(chart.series) - 1) / 2) * width for place, _, _ in known]
        heights = [y for _, y, _ in known]
        errors = [series.errors[place] or 0.0 for _, _, place in known] if series.errors else None
        bars = axes.bar(
            at,
            heights,
            width,
            yerr=errors,
            capsize=4,
            label=series.name,
            color=COLOURS[index % len(COLOURS)],
            hatch=HATCHES[index % len(HATCHES)] if len(chart.series) > 1 else "",
            edgecolor="white",
        )
        axes.bar_label(bars, labels=[value_text(height) for height in heights], padding=2, fontsize=8)
    axes.set_xticks(range(len(names)), names, rotation=20 if max(map(len, names), default=0) > 12 else 0)
    axes.margins(y=0.15)


def _stacked(axes: Any, chart: Chart) -> None:
    names = [str(x) for x in chart.series[0].xs]
    floor = [0.0] * len(names)
    for index, series in enumerate(chart.series):
        heights = [y or 0.0 for y in series.ys]
        axes.bar(
            names,
            heights,
            0.6,
            bottom=floor,
            label=series.name,
            color=COLOURS[index % len(COLOURS)],
            hatch=HATCHES[index % len(HATCHES)],
            edgecolor="white",
        )
        floor = [low + height for low, height in zip(floor, heights, strict=True)]
    for place, top in enumerate(floor):
        axes.annotate(value_text(top), (place, top), ha="center", va="bottom", fontsize=8)
    axes.margins(y=0.15)


def _lines(axes: Any, chart: Chart) -> None:
    for index, series in enumerate(chart.series):
        xs, ys = _known(series)
        style = {"linestyle": "--", "color": "#666666"} if series.is_ideal else {"color": COLOURS[index % len(COLOURS)]}
        axes.plot(xs, ys, label=series.name, marker="" if series.is_ideal else POINT_MARKERS[index % len(POINT_MARKERS)], **style)
        if index == 0 and len(ys) <= MAX_LABELLED_POINTS and len(chart.series) <= 3:
            for x, y in zip(xs, ys, strict=True):
                axes.annotate(value_text(y), (x, y), textcoords="offset points", xytext=(0, 6), ha="center", fontsize=8)
    _zone(axes, chart)
    _marks(axes, chart)
    if all(isinstance(x, float) and x.is_integer() for series in chart.series for x in series.xs):
        from matplotlib.ticker import MaxNLocator

        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _steps(axes: Any, chart: Chart) -> None:
    for index, series in enumerate(chart.series):
        xs, ys = _known(series)
        colour, marker = COLOURS[index % len(COLOURS)], POINT_MARKERS[index % len(POINT_MARKERS)]
        axes.step(xs, ys, where="post", label=series.name, color=colour, marker=marker)
    _marks(axes, chart)
    axes.set_ylim(bottom=0.0)


def _zone(axes: Any, chart: Chart) -> None:
    """The zone of negative scaling, shaded."""
    if chart.negative_below is None:
        return
    axes.axhspan(0.0, chart.negative_below, color="#D55E00", alpha=0.12, lw=0)
    axes.set_ylim(bottom=0.0)
    axes.annotate("negative scaling", (0.99, chart.negative_below / 2), xycoords=("axes fraction", "data"), ha="right", fontsize=8)


def _marks(axes: Any, chart: Chart) -> None:
    for x, text in chart.marks:
        axes.axvline(x, color="#999999", lw=0.8, ls=":")
        axes.annotate(text, (x, 0.98), xycoords=("data", "axes fraction"), rotation=90, va="top", ha="right", fontsize=7)


def _known(series: Series) -> tuple[list[float], list[float]]:
    points = [(float(x), y) for x, y in zip(series.xs, series.ys, strict=True) if y is not None]
    return [x for x, _ in points], [y for _, y in points]


def value_text(value: float) -> str:
    """A value at a bar or a point: three digits at least."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


_PAINTERS = {"bars": _bars, "stacked": _stacked, "lines": _lines, "steps": _steps}
