"""The result of a run as a table: of its document when it is there, of the cases so far until then. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from paceline.engine.reports.document_type import document_type
from paceline.engine.store.selectors import rates_alone, throughput_of
from paceline.engine.store.state import RunState
from textual.strip import Strip

from ...command_line.json_fields import listed, numeric
from ...messages import View
from ...terminal.format import UNKNOWN, loss, number, pad, pad_left, percent, ratio, untrusted
from ...theme import GLYPHS, PALETTE
from ..drawing.lines import Piece, bar, line, spread
from ..run.phases import phase_lines
from .policies import PolicyRow, known, limit, policy_rows, rounds_of
from .speedup import speedup_lines

COLUMNS = (12, 11, 10, 9, 10, 9)
"""Widths of the numbers of the table."""
WIDEST = 120
"""Columns beyond which bars are harder to read, not easier."""
ALONE = "standalone_samples_per_second"


def result_lines(view: View, width: int, height: int) -> list[Strip]:
    """All there is to say of the run's result."""
    run = shown_run(view)
    if run is None:
        hint = "press : and type  bench  to compare the policies on these devices"
        return [line(width, ("no results yet", PALETTE.strong)), line(width, (hint, PALETTE.dim))]
    others = result_runs(view)
    choice: list[Strip] = []
    if len(others) > 1 and run.run_id in others:
        text = f"run {others.index(run.run_id) + 1} of {len(others)}"
        choice = [line(width, (text, PALETTE.accent), ("  ← → show the others", PALETTE.dim)), line(width)]
    return [*choice, *_result(run, width)]


def _result(run: RunState, width: int) -> list[Strip]:
    if run.document is not None and document_type(run.document) == "train":
        return _train_lines(run, run.document, width)
    document = run.document or {}
    if not run.document and not run.is_bench and len(run.cases) < 2:
        return _train_lines(run, {"epochs": _epochs_so_far(run)}, width)
    lines = [_title(run, document, width), line(width, (pad(_source(run, document), width), PALETTE.dim)), line(width)]
    rows = policy_rows(run)
    lines += _table(rows, width)
    lines += [line(width), *speedup_lines(rows, limit(run), min(width, WIDEST))]
    lines += [line(width), *_device_lines(run, document, width)]
    lines += phase_lines(document, width, WIDEST)
    for warning in document.get("warnings") or ():
        lines.append(line(width, (f"{GLYPHS['warning']} ", PALETTE.warning), (untrusted(warning), PALETTE.text)))
    return lines


def result_runs(view: View) -> list[str]:
    """Runs that have come to a result or at least to an epoch, oldest first."""
    return [run.run_id for run in view.state.runs.values() if has_result(run)]


def has_result(run: RunState) -> bool:
    """Whether it came to a result or at least to an epoch; what a profiling found has a screen of its own."""
    return (run.document is not None and "links" not in run.document) or any(case.epochs for case in run.cases)


def shown_run(view: View) -> RunState | None:
    """The run in hand, or the newest one that came to a result."""
    run = view.run
    if run is not None and has_result(run):
        return run
    found = [other for other in view.state.runs.values() if other.document is not None and has_result(other)]
    if found and not view.run_id:
        return found[-1]
    return run if run is not None and run.document is None else None


def _title(run: RunState, document: Mapping[str, Any], width: int) -> Strip:
    left: list[Piece] = [(untrusted(run.workload or document.get("workload", "")), PALETTE.strong)]
    if run.is_emulated or document.get("emulated"):
        network = " and network" if run.is_network_emulated or document.get("emulated_network") else ""
        left.append((f" · emulated devices{network}", PALETTE.text))
    left.append((f" · {untrusted(run.run_id)}", PALETTE.dim))
    if run.document:
        return spread(width, left, [(f"{GLYPHS['done']} measured", PALETTE.ok)])
    state = run.state if run.is_over else "running"
    words = "so far" if not run.is_over else f"{run.state}, without a result"
    return spread(width, left, [(f"{GLYPHS[state]} {words}", PALETTE.of(state))])


def _source(run: RunState, document: Mapping[str, Any]) -> str:
    data = document.get("data")
    rows = numeric(data.get("rows")) if isinstance(data, Mapping) else None
    source = untrusted((data.get("source") if isinstance(data, Mapping) else "") or run.source)
    told = f" · {source}, {rows:,.0f} rows" if rows is not None and source else f" · {source}" if source else ""
    weights = numeric(document.get("parameters"))
    size = f" · {weights:,.0f} parameters" if weights is not None else ""
    rounds = rounds_of(run)
    repeats = f"{rounds} repeats, mean ± 95 % interval · " if rounds > 1 else ""
    return f"{repeats}first epoch of each case left out{told}{size}"


def _table(rows: list[PolicyRow], width: int) -> list[Strip]:
    has_foresight, has_shares = width >= 110, width >= 132
    is_accuracy = any(row.accuracy is not None for row in rows) or all(row.loss is None for row in rows)
    names = ("samples/s", "over equal", "over best", "of limit", "imbalance", "accuracy" if is_accuracy else "loss")
    heading = pad("policy", 15) + "".join(pad_left(name, size) for name, size in zip(names, COLUMNS, strict=True))
    heading += "J/sample".rjust(10) + "predicted".rjust(11) + "off".rjust(9) if has_foresight else ""
    heading += "changes".rjust(9) + "  local batch" if has_shares else ""
    lines = [line(width, (heading, PALETTE.dim)), line(width, ("─" * min(width, len(heading) + 8), PALETTE.rest))]
    done = [row.rate for row in rows if row.rate is not None]
    best = max(done, default=None)
    for row in rows:
        is_best = row.rate is not None and row.rate == best and len(done) > 1
        text = PALETTE.strong if is_best else PALETTE.text if row.rate is not None else PALETTE.dim
        last = percent2(row.accuracy) if is_accuracy else loss(row.loss)
        cells = _with_half(row), ratio(row.over_equal), ratio(row.over_best), percent(row.of_limit), percent(row.imbalance), last
        pieces: list[Piece] = [
            (GLYPHS.get(row.state, " ") + " " if row.state in ("running", "measuring") else "  ", PALETTE.accent),
            (pad(row.policy, 13), PALETTE.accent_strong if is_best else text),
            *((pad_left(value, size), text) for value, size in zip(cells, COLUMNS, strict=True)),
        ]
        if has_foresight:
            pieces += [
                (pad_left(loss(row.joules), 10), text),
                (pad_left(number(row.predicted), 11), text),
                (pad_left(off(row.off), 9), text),
            ]
        if has_shares:
            pieces += [(pad_left(UNKNOWN if row.changes is None else str(row.changes), 9), text), (f"  {row.sizes}", PALETTE.dim)]
        lines.append(line(width, *pieces))
    if not has_foresight:
        told = [f"{row.policy} {number(row.predicted)} ({off(row.off)})" for row in rows if row.predicted is not None]
        words = f"predicted before launch: {', '.join(told)}" if told else ""
        lines += [
            line(width, (part, PALETTE.dim))
            for part in textwrap.wrap(words, max(20, width - 2), initial_indent="  ", subsequent_indent="  ")
        ]
    return lines


def _with_half(row: PolicyRow) -> str:
    return number(row.rate) + (f" ± {row.rate_half:,.0f}" if row.rate_half is not None else "")


def off(fraction: float | None) -> str:
    """How far off a prediction was, with its sign."""
    return UNKNOWN if fraction is None else f"{fraction * 100:+.1f} %"


def percent2(fraction: float | None) -> str:
    """A fraction as percent with one decimal: accuracies differ by less than one."""
    return UNKNOWN if fraction is None else f"{fraction * 100:.1f} %"


def _device_lines(run: RunState, document: Mapping[str, Any], width: int) -> list[Strip]:
    """What each device does alone: the limit of what sharing can reach."""
    devices = [
        (f"{untrusted(device.get('node', ''))} {untrusted(device.get('name', ''))}", numeric(device.get(ALONE)))
        for device in listed(document, "devices")
    ]
    if not devices:
        rates = max((rates_alone(run, case) for case in reversed(run.cases)), key=len, default={})
        devices = [
            (f"{untrusted(rank.node)} {untrusted(rank.device_name)}", rates.get(rank.rank))
            for rank in sorted(run.ranks.values(), key=lambda rank: rank.rank)
        ]
    known = [rate for _, rate in devices if rate is not None]
    if not known:
        return []
    total, largest = sum(known), max(known)
    lines = [line(width, ("each device alone, samples/s", PALETTE.dim))]
    for name, rate in devices:
        filled = bar(rate / largest if rate is not None and largest > 0 else None, min(width, WIDEST) - 36)
        pieces = (pad(f"  {name}", 26), PALETTE.text), (pad_left(number(rate), 8) + "  ", PALETTE.text), (filled, PALETTE.bar_past)
        lines.append(line(width, *pieces))
    if len(known) == len(devices):
        lines.append(line(width, ("  " + pad("together, at best", 24), PALETTE.dim), (pad_left(number(total), 8), PALETTE.strong)))
    return lines


def _train_lines(run: RunState, document: Mapping[str, Any], width: int) -> list[Strip]:
    """A training: its epochs."""
    epochs = listed(document, "epochs")
    name = next((point.metric_name for case in run.cases for point in case.epochs if point.metric_name), "metric")
    lines = [_title(run, document, width), line(width, (untrusted(run.source), PALETTE.dim)), line(width)]
    if not epochs:
        return [*lines, line(width, ("no epoch is over yet", PALETTE.dim))]
    heading = (
        pad_left("epoch", 7)
        + pad_left("loss", 12)
        + pad_left(untrusted(name), 12)
        + pad_left("samples/s", 12)
        + pad_left("seconds", 10)
    )
    lines += [line(width, (heading, PALETTE.dim)), line(width, ("─" * width, PALETTE.rest))]
    for epoch in epochs:
        metric = numeric(epoch.get("metric"))
        shown = percent2(metric) if name == "accuracy" else loss(metric)
        cells = (
            pad_left(number(numeric(epoch.get("epoch"))), 7),
            pad_left(loss(numeric(epoch.get("loss"))), 12),
            pad_left(shown, 12),
            pad_left(number(numeric(epoch.get("samples_per_second"))), 12),
            pad_left(number(numeric(epoch.get("seconds")), 1), 10),
        )
        lines.append(line(width, ("".join(cells), PALETTE.text)))
    lines += [line(width), line(width, *_whole(run, document))]
    return lines + phase_lines(document, width, WIDEST)


def _whole(run: RunState, document: Mapping[str, Any]) -> list[Piece]:
    """All epochs but the first together, beside what was said of them before the launch."""
    case = run.cases[0] if run.cases else None
    rate = known(document.get("samples_per_second")) if run.document else throughput_of(case) if case else None
    predicted = known(document.get("predicted_samples_per_second")) if run.document else case.predicted if case else None
    joules = known(document.get("joules_per_sample"))
    error = predicted / rate - 1.0 if predicted is not None and rate else None
    pieces: list[Piece] = [(f"{number(rate)} samples/s", PALETTE.strong), (" without the first epoch", PALETTE.dim)]
    pieces.append((f" · predicted before launch {number(predicted)}", PALETTE.text))
    pieces.append((f" ({off(error)})" if error is not None else "", PALETTE.text))
    return [*pieces, (f" · {loss(joules)} J/sample", PALETTE.dim)]


def _epochs_so_far(run: RunState) -> list[dict[str, Any]]:
    points = run.cases[0].epochs if run.cases else ()
    return [
        {
            "epoch": point.epoch,
            "loss": point.loss,
            "metric": point.metric,
            "samples_per_second": point.samples_per_second,
            "seconds": point.seconds,
        }
        for point in points
    ]
