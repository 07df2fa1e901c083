"""The result of a run as tables: from its document if there is one, else from the cases so far. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from paceline.engine.reports.document_type import document_type
from paceline.engine.reports.json_fields import listed, numeric
from paceline.engine.states import FINAL
from paceline.engine.store.selectors import case_throughput, standalone_rates
from paceline.engine.store.state import RunState
from textual.strip import Strip

from ...messages import View
from ...terminal.format import UNKNOWN, loss, number, pad, pad_left, percent, ratio, sanitize
from ...theme import GLYPHS, PALETTE
from ..drawing.lines import Piece, bar, justified_line, line
from ..run.phases import phase_lines
from .forecast import forecast_lines
from .policies import PolicyRow, plausible_number, policy_rows, prediction_text, repeats_of, standalone_total, throughput_limit
from .speedup import speedup_lines

NUMBER_COLUMNS = (12, 11, 10, 9, 10, 9)
"""Widths of the number columns of the table."""
PREDICTION_COLUMNS = 14
"""Width of the prediction with its doubt."""
MAX_BAR_COLUMNS = 120
"""Largest width of bar charts: longer bars are harder to read."""
STANDALONE_KEY = "standalone_samples_per_second"


def result_lines(view: View, width: int, height: int) -> list[Strip]:
    """The whole Results screen; the number of lines is not limited."""
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
    lines += forecast_lines(document, width)
    limit = throughput_limit(run)
    is_exceeded = limit is None and standalone_total(run) is not None
    lines += [line(width), *speedup_lines(rows, limit, min(width, MAX_BAR_COLUMNS), is_exceeded=is_exceeded)]
    lines += [line(width), *_device_lines(run, document, width, limit is not None)]
    lines += phase_lines(document, width, MAX_BAR_COLUMNS)
    for warning in document.get("warnings") or ():
        lines.append(line(width, (f"{GLYPHS['warning']} ", PALETTE.warning), (sanitize(warning), PALETTE.text)))
    return lines


def result_runs(view: View) -> list[str]:
    """Runs with a result or at least one epoch, oldest first; of earlier sessions too, whose result is read when it is shown."""
    return [run.run_id for run in view.state.runs.values() if has_result(run) or _is_listed_with_result(run)]


def _is_listed_with_result(run: RunState) -> bool:
    """Whether a run that was not read here has a result: its list says so."""
    return run.is_over and not run.ranks and (run.summary.samples_per_second is not None or run.summary.loss is not None)


def has_result(run: RunState) -> bool:
    """Whether the run has a result or at least one epoch; profiles are shown on a screen of their own."""
    return (run.document is not None and document_type(run.document) != "profile") or any(case.epochs for case in run.cases)


def shown_run(view: View) -> RunState | None:
    """The chosen run if it has a result, else the newest run that has one."""
    run = view.run
    if run is not None and has_result(run):
        return run
    with_result = [other for other in view.state.runs.values() if other.document is not None and has_result(other)]
    if with_result and not view.run_id:
        return with_result[-1]
    return run if run is not None and run.document is None else None


def _title(run: RunState, document: Mapping[str, Any], width: int) -> Strip:
    left: list[Piece] = [(sanitize(run.workload or document.get("workload", "")), PALETTE.strong)]
    if run.is_emulated or document.get("emulated"):
        network = " and network" if run.is_network_emulated or document.get("emulated_network") else ""
        left.append((f" · emulated devices{network}", PALETTE.text))
    left.append((f" · {sanitize(run.run_id)}", PALETTE.dim))
    if run.document:
        return justified_line(width, left, [(f"{GLYPHS['done']} measured", PALETTE.ok)])
    state = run.state if run.is_over else "running"
    state_text = "so far" if not run.is_over else f"{run.state}, without a result"
    return justified_line(width, left, [(f"{GLYPHS[state]} {state_text}", PALETTE.state_style(state))])


def _source(run: RunState, document: Mapping[str, Any]) -> str:
    data = document.get("data")
    rows = numeric(data.get("rows")) if isinstance(data, Mapping) else None
    source = sanitize((data.get("source") if isinstance(data, Mapping) else "") or run.source)
    source_text = f" · {source}, {rows:,.0f} rows" if rows is not None and source else f" · {source}" if source else ""
    parameters = numeric(document.get("parameters"))
    size = f" · {parameters:,.0f} parameters" if parameters is not None else ""
    rounds = repeats_of(run)
    repeats = f"{rounds} repeats, mean ± 95 % interval · " if rounds > 1 else ""
    return f"{repeats}first epoch of each case left out{source_text}{size}"


def _table(rows: list[PolicyRow], width: int) -> list[Strip]:
    has_foresight, has_shares = width >= 110, width >= 132
    is_accuracy = any(row.accuracy is not None for row in rows) or all(row.loss is None for row in rows)
    names = ("samples/s", "over equal", "over best", "of limit", "imbalance", "accuracy" if is_accuracy else "loss")
    heading = pad("policy", 15) + "".join(pad_left(name, size) for name, size in zip(names, NUMBER_COLUMNS, strict=True))
    heading += "J/sample".rjust(10) + "predicted".rjust(PREDICTION_COLUMNS) + "miss".rjust(9) if has_foresight else ""
    heading += "changes".rjust(9) + "  local batch" if has_shares else ""
    lines = [line(width, (heading, PALETTE.dim)), line(width, ("─" * min(width, len(heading) + 8), PALETTE.rest))]
    done = [row.samples_per_second for row in rows if row.samples_per_second is not None]
    best = max(done, default=None)
    for row in rows:
        is_best = row.samples_per_second is not None and row.samples_per_second == best and len(done) > 1
        text = PALETTE.strong if is_best else PALETTE.text if row.samples_per_second is not None else PALETTE.dim
        last = precise_percent(row.accuracy) if is_accuracy else loss(row.loss)
        cells = (
            _rate_text(row),
            ratio(row.speedup_over_equal),
            ratio(row.speedup_over_best),
            percent(row.balance_efficiency),
            percent(row.imbalance),
            last,
        )
        pieces: list[Piece] = [
            (GLYPHS.get(row.state, " ") + " " if row.state in ("running", "measuring") else "  ", PALETTE.accent),
            (pad(row.policy, 13), PALETTE.accent_strong if is_best else text),
            *((pad_left(value, size), text) for value, size in zip(cells, NUMBER_COLUMNS, strict=True)),
        ]
        if has_foresight:
            pieces += [
                (pad_left(loss(row.joules_per_sample), 10), text),
                (pad_left(prediction_text(row.predicted_samples_per_second, row.predicted_doubt), PREDICTION_COLUMNS), text),
                (pad_left(signed_percent(row.prediction_error), 9), text),
            ]
        if has_shares:
            pieces += [
                (pad_left(UNKNOWN if row.changes is None else str(row.changes), 9), text),
                (f"  {row.local_batch_sizes}", PALETTE.dim),
            ]
        lines.append(line(width, *pieces))
    if not has_foresight:
        predictions = [
            f"{row.policy} {prediction_text(row.predicted_samples_per_second, row.predicted_doubt)}"
            f" ({signed_percent(row.prediction_error)})"
            for row in rows
            if row.predicted_samples_per_second is not None
        ]
        forecast = f"predicted before launch: {', '.join(predictions)}" if predictions else ""
        lines += [
            line(width, (part, PALETTE.dim))
            for part in textwrap.wrap(forecast, max(20, width - 2), initial_indent="  ", subsequent_indent="  ")
        ]
    return lines


def _rate_text(row: PolicyRow) -> str:
    return number(row.samples_per_second) + (f" ± {row.half_width:,.0f}" if row.half_width is not None else "")


def signed_percent(fraction: float | None) -> str:
    """A signed percentage with one decimal, such as the error of a prediction."""
    return UNKNOWN if fraction is None else f"{fraction * 100:+.1f} %"


def precise_percent(fraction: float | None) -> str:
    """A percentage with one decimal: accuracies differ by less than one percent."""
    return UNKNOWN if fraction is None else f"{fraction * 100:.1f} %"


def _device_lines(run: RunState, document: Mapping[str, Any], width: int, is_limit: bool) -> list[Strip]:
    """The standalone rate of each device, and their sum; ``is_limit``: no policy exceeds it."""
    devices = [
        (f"{sanitize(device.get('node', ''))} {sanitize(device.get('name', ''))}", numeric(device.get(STANDALONE_KEY)))
        for device in listed(document, "devices")
    ]
    if not devices:
        rates = max((standalone_rates(run, case) for case in reversed(run.cases)), key=len, default={})
        devices = [
            (f"{sanitize(rank.node)} {sanitize(rank.device_name)}", rates.get(rank.rank))
            for rank in sorted(run.ranks.values(), key=lambda rank: rank.rank)
        ]
    known = [rate for _, rate in devices if rate is not None]
    if not known:
        return []
    total, largest = sum(known), max(known)
    lines = [line(width, ("each device alone, samples/s", PALETTE.dim))]
    for name, rate in devices:
        filled = bar(rate / largest if rate is not None and largest > 0 else None, min(width, MAX_BAR_COLUMNS) - 36)
        pieces = (pad(f"  {name}", 26), PALETTE.text), (pad_left(number(rate), 8) + "  ", PALETTE.text), (filled, PALETTE.bar_past)
        lines.append(line(width, *pieces))
    if len(known) == len(devices):
        lines.append(
            line(
                width,
                ("  " + pad("together, at best" if is_limit else "together", 24), PALETTE.dim),
                (pad_left(number(total), 8), PALETTE.strong),
            )
        )
    return lines


def _train_lines(run: RunState, document: Mapping[str, Any], width: int) -> list[Strip]:
    """A training run: its epochs."""
    epochs = listed(document, "epochs")
    name = next((point.metric_name for case in run.cases for point in case.epochs if point.metric_name), "metric")
    lines = [_title(run, document, width), line(width, (sanitize(run.source), PALETTE.dim)), line(width)]
    if not epochs:
        return [*lines, line(width, ("no epoch was recorded" if run.state in FINAL else "no epoch is over yet", PALETTE.dim))]
    heading = (
        pad_left("epoch", 7)
        + pad_left("loss", 12)
        + pad_left(sanitize(name), 12)
        + pad_left("samples/s", 12)
        + pad_left("seconds", 10)
    )
    lines += [line(width, (heading, PALETTE.dim)), line(width, ("─" * width, PALETTE.rest))]
    for epoch in epochs:
        metric = numeric(epoch.get("metric"))
        shown = precise_percent(metric) if name == "accuracy" else loss(metric)
        cells = (
            pad_left(number(numeric(epoch.get("epoch"))), 7),
            pad_left(loss(numeric(epoch.get("loss"))), 12),
            pad_left(shown, 12),
            pad_left(number(numeric(epoch.get("samples_per_second"))), 12),
            pad_left(number(numeric(epoch.get("seconds")), 1), 10),
        )
        lines.append(line(width, ("".join(cells), PALETTE.text)))
    lines += [*forecast_lines(document, width), line(width), line(width, *_totals(run, document))]
    return lines + phase_lines(document, width, MAX_BAR_COLUMNS)


def _totals(run: RunState, document: Mapping[str, Any]) -> list[Piece]:
    """Throughput over all epochs but the first, and its prediction."""
    case = run.cases[0] if run.cases else None
    rate = plausible_number(document.get("samples_per_second")) if run.document else case_throughput(case) if case else None
    predicted = (
        plausible_number(document.get("predicted_samples_per_second"))
        if run.document
        else case.predicted_samples_per_second
        if case
        else None
    )
    joules = plausible_number(document.get("joules_per_sample"))
    error = predicted / rate - 1.0 if predicted is not None and rate else None
    pieces: list[Piece] = [(f"{number(rate)} samples/s", PALETTE.strong), (" without the first epoch", PALETTE.dim)]
    doubt = plausible_number(document.get("predicted_doubt"))
    pieces.append((f" · predicted before launch {prediction_text(predicted, doubt)}", PALETTE.text))
    pieces.append((f" ({signed_percent(error)})" if error is not None else "", PALETTE.text))
    return [*pieces, (f" · {loss(joules)} J/sample", PALETTE.dim)]


POLICY_COLUMNS = (
    "policy",
    "samples_per_second",
    "half_width",
    "repeats",
    "predicted_samples_per_second",
    "speedup_over_equal",
    "speedup_over_best",
    "balance_efficiency",
    "imbalance",
    "accuracy",
    "loss",
    "joules_per_sample",
    "changes",
    "local_batch_sizes",
)
EPOCH_COLUMNS = ("epoch", "training_loss", "loss", "metric", "metric_name", "samples_per_second", "seconds")


def result_data(run: RunState | None) -> list[Sequence[object]]:
    """The main table as data, a heading first: a row a policy, or a row an epoch of a training; empty where there is none."""
    if run is None or not has_result(run):
        return []
    if run.document is not None and document_type(run.document) == "train":
        return [EPOCH_COLUMNS, *([epoch.get(name) for name in EPOCH_COLUMNS] for epoch in listed(run.document, "epochs"))]
    if run.document is None and not run.is_bench and len(run.cases) < 2:
        return [EPOCH_COLUMNS, *([epoch.get(name) for name in EPOCH_COLUMNS] for epoch in _epochs_so_far(run))]
    return [POLICY_COLUMNS, *([getattr(row, name) for name in POLICY_COLUMNS] for row in policy_rows(run))]


def _epochs_so_far(run: RunState) -> list[dict[str, Any]]:
    points = run.cases[0].epochs if run.cases else ()
    return [
        {
            "epoch": point.epoch + 1,
            "training_loss": point.training_loss,
            "loss": point.loss,
            "metric": point.metric,
            "metric_name": point.metric_name,
            "samples_per_second": point.samples_per_second,
            "seconds": point.seconds,
        }
        for point in points
    ]
