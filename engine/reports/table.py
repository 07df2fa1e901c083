"""Result documents as text: aligned tables for a terminal, Markdown for report.md and the README. Pure.

Needs the documents only, so that an old result.json prints like a new one. Unknown is a dash, never 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .document_type import Document, document_type
from .forecast import BASELINE, baseline_of, forecast_notes
from .phases import COMPUTE, PHASES, bottleneck_sentence
from .stragglers import straggler_sentence

UNKNOWN_CELL = "—"
LIMIT_TOLERANCE = 0.02
"""Excess of a measured throughput over the limit that is noise of either measurement."""
MAX_STRAGGLER_NOTES = 8
"""Stragglers listed under a table."""
MAX_PHASE_RANKS = 16
"""Ranks per case in the table of phases."""
MAX_EPOCH_ROWS = 64
"""Rows of the table of phases by epoch."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A header and rows of cells; the first ``text_columns`` are left-aligned text, the others right-aligned figures."""

    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    text_columns: int = 1

    def plain(self) -> str:
        """The table with columns aligned by spaces."""
        widths = [max(len(row[column]) for row in (self.header, *self.rows)) for column in range(len(self.header))]
        lines = []
        for row in (self.header, *self.rows):
            cells = [
                cell.ljust(width) if column < self.text_columns else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            lines.append(" " + "  ".join(cells).rstrip())
        return "\n".join(lines)

    def markdown(self) -> str:
        """A Markdown table."""
        rule = ["---" if column < self.text_columns else "---:" for column in range(len(self.header))]
        rows = [[cell.replace("\\", "\\\\").replace("|", "\\|") for cell in row] for row in (self.header, *self.rows)]
        return "\n".join("| " + " | ".join(row) + " |" for row in (rows[0], rule, *rows[1:]))


def bench_table(document: Document) -> str:
    """A benchmark: one row per policy, the devices alone, the limit, and notes."""
    grids = [cases_grid(document).plain(), *_plain(forecast_grid(document)), devices_grid(document).plain()]
    return "\n".join([_title(document), *grids, *_best_device_line(document), *_limit_line(document), *_notes(document)])


def train_table(document: Document) -> str:
    """A training: one row per epoch, then shares and notes."""
    grids = [epochs_grid(document).plain(), *_plain(forecast_grid(document))]
    return "\n".join([_title(document), *grids, _shared(document), *_notes(document)])


def _plain(grid: Grid) -> list[str]:
    """The grid as text; nothing without rows."""
    return [grid.plain()] if grid.rows else []


def report_markdown(document: Document) -> str:
    """report.md of a run: the same tables, with definitions of their terms."""
    facts = [f"# {_title(document)}", "", f"Run `{document['run_id']}`{_state(document)}"]
    if document_type(document) == "bench":
        body = [bench_markdown(document), "", BENCH_NOTES]
    else:
        body = [
            epochs_grid(document).markdown(),
            "",
            *_forecast_markdown(document),
            *_script_lines(document),
            _shared(document),
            "",
            TRAIN_NOTES,
        ]
    if (phases := phases_grid(document)).rows:
        body += ["", "## Where a step goes", "", phases.markdown(), "", PHASE_NOTES]
    if (by_epoch := epoch_phases_grid(document)).rows:
        body += ["", "### Epoch by epoch", "", by_epoch.markdown()]
    data = document["data"]
    rows = f"{data['rows']:,} rows, " if data["rows"] else ""
    source = f"Data: {printable(data['source'])}, {rows}sha256 `{data['sha256']}`."
    notes = [f"- {note}" for note in _notes(document)]
    return "\n".join([*facts, "", *body, "", source, *([""] if notes else []), *notes, ""])


def _script_lines(document: Document) -> list[str]:
    """How a script was balanced, and the last values of its metrics; none for a workload."""
    balance, metrics = document.get("balance"), document.get("metrics") or {}
    lines = []
    if balance is not None:
        how = f"balanced through {balance['door']}" if balance["state"] == "balanced" else f"ran as it is: {balance['reason']}"
        lines += [f"The script {printable(how)}.", ""]
    if metrics:
        grid = Grid(("metric", "epoch", "value"), [(name, *_last(curve)) for name, curve in metrics.items() if curve])
        lines += [grid.markdown(), ""]
    return lines


def _last(curve: list[list[Any]]) -> tuple[str, str]:
    epoch, value = curve[-1]
    return str(epoch), format_or_dash(value, "{:.5g}".format)


def bench_markdown(document: Document) -> str:
    """Both tables of a benchmark and its limit, for report.md and the README."""
    under = [*_best_device_line(document), *_limit_line(document)]
    return "\n".join(
        [cases_grid(document).markdown(), "", *_forecast_markdown(document), devices_grid(document).markdown(), "", *under]
    )


BENCH_NOTES = (
    "*±* is the 95 % interval of the mean over the repeats, by Student's t; *sd* is their standard deviation. *Miss* is predicted\n"
    "over measured, less one. Throughput leaves the first epoch out and counts neither evaluation nor checkpoints. *Over best\n"
    "device* compares with the fastest device alone at the whole global batch. *Of the limit* is throughput over the sum of the\n"
    "standalone rates at the case's own last local batches. *Imbalance* is (max − min) / mean of the ranks' mean compute seconds\n"
    "in full-size steps. Ranks without samples count in neither."
)
PHASE_NOTES = (
    "Milliseconds of a full-size step, first epoch left out. *Communication* is what nothing hides: the least wait of any rank.\n"
    "*Wait* is the rest, for other ranks; *host* is a stall of the thread that feeds the device."
)
FORECAST_NOTES = (
    "Errors in the scaled units of the data, where the range of the training prices is 1. *Verdict* compares with repeating the\n"
    "last value, sample by sample on the test part: *no better* is a difference within its 95 % interval."
)
TRAIN_NOTES = "Seconds run from the first step of an epoch to its last gradient: no evaluation, no checkpoint."


def cases_grid(document: Document) -> Grid:
    """One row per policy."""
    name = next((case["metric_name"] for case in document["cases"] if case.get("metric_name")), "accuracy")
    header: tuple[str, ...] = (
        "policy",
        "samples/s",
        "over equal",
        "over best device",
        "of the limit",
        "imbalance",
        "changes",
        *_quality_names(document, name),
        "J/sample",
    )
    rows: list[tuple[str, ...]] = [
        (
            case["policy"],
            format_or_dash(case["samples_per_second"], format_rate)
            + _interval(case, "samples_per_second", format_rate_like(case["samples_per_second"])),
            format_or_dash(case["speedup_over_equal"], format_speedup) + _interval(case, "speedup_over_equal", "{:.2f}".format),
            format_or_dash(case["speedup_over_best_device"], format_speedup),
            format_or_dash(case["balance_efficiency"], format_percent),
            format_or_dash(case["imbalance"], format_percent),
            format_or_dash(case["changes"], str),
            format_or_dash(case["loss"], format_loss) + _interval(case, "loss", "{:.2g}".format),
            *_quality_cells(document, case, name),
            format_or_dash(case.get("joules_per_sample"), format_loss),
        )
        for case in document["cases"]
    ]
    if any(case.get("predicted_samples_per_second") is not None for case in document["cases"]):
        header = (*header[:2], "predicted", "miss", *header[2:])
        foreseen = [
            (
                format_or_dash(case.get("predicted_samples_per_second"), format_rate) + _doubt(case),
                format_or_dash(case.get("prediction_error"), format_signed_percent),
            )
            for case in document["cases"]
        ]
        rows = [(*cells[:2], *words, *cells[2:]) for cells, words in zip(rows, foreseen, strict=True)]
    if _repeats(document) > 1:
        header = (header[0], "repeats", *header[1:])
        rows = [
            (row[0], format_or_dash(case.get("repeats"), str), *row[1:]) for row, case in zip(rows, document["cases"], strict=True)
        ]
    if (baseline := baseline_of(document)) is not None:
        quality = (format_loss(baseline["mse"]), *_quality_cells(document, baseline, name))
        rows.append((BASELINE, *[UNKNOWN_CELL] * (len(header) - len(quality) - 2), *quality, UNKNOWN_CELL))
    return Grid(header, rows)


def _quality_names(document: Document, name: str) -> tuple[str, ...]:
    """Names of the columns of quality: a forecast's squared error is its loss already."""
    return ("loss", "mae", "r2") if document.get("forecast") else ("loss", name)


def _quality_cells(document: Document, entry: Document, name: str) -> tuple[str, ...]:
    """The cells of these columns after the loss; ``entry``: a case, an epoch or the baseline."""
    if document.get("forecast"):
        return format_or_dash(entry.get("mae"), format_loss), format_or_dash(entry.get("r2"), format_r2)
    value = entry.get("accuracy") if name == "accuracy" and "accuracy" in entry else entry.get("metric", entry.get("mse"))
    return (format_or_dash(value, metric_format(name)) + _interval(entry, "metric", metric_format(name)),)


def forecast_grid(document: Document) -> Grid:
    """Forecasts and the one that repeats the last value, on both parts of the data; empty for other workloads."""
    found: dict[str, dict[str, Document]] = {}
    for row in document.get("forecast") or ():
        found.setdefault(row["model"], {})[row["part"]] = row
    parts = ("validation", "test")
    header = ("forecast", *(f"{part} {figure}" for part in parts for figure in ("mse", "mae", "r2")), "verdict")
    rows = []
    for model, mine in found.items():
        cells = [
            format_or_dash((mine.get(part) or {}).get(figure), format_r2 if figure == "r2" else format_loss)
            for part in parts
            for figure in ("mse", "mae", "r2")
        ]
        judged = (mine.get("test") or mine["validation"])["verdict"]
        rows.append((printable(model), *cells, format_or_dash(judged, str)))
    return Grid(header, rows)


def _forecast_markdown(document: Document) -> list[str]:
    grid = forecast_grid(document)
    return [grid.markdown(), "", FORECAST_NOTES, ""] if grid.rows else []


def devices_grid(document: Document) -> Grid:
    """The devices alone, at the local batches of the benchmark's reference case."""
    label = "emulated device" if document["emulated"] else "device"
    rows = [
        (printable(device["node"]), printable(device["name"]), format_or_dash(device["standalone_samples_per_second"], format_rate))
        for device in document["devices"]
    ]
    return Grid(("node", label, "samples/s alone"), rows, text_columns=2)


def epochs_grid(document: Document) -> Grid:
    """One row per epoch of a training."""
    name = next((epoch["metric_name"] for epoch in document["epochs"] if epoch["metric_name"]), "metric")
    rows = [
        (
            str(epoch["epoch"]),
            format_or_dash(epoch["training_loss"], format_loss),
            format_or_dash(epoch["loss"], format_loss),
            *_quality_cells(document, epoch, name),
            format_or_dash(epoch["samples_per_second"], format_rate),
            format_or_dash(epoch["seconds"], "{:.2f}".format),
        )
        for epoch in document["epochs"]
    ]
    if (baseline := baseline_of(document)) is not None:
        cells = (format_loss(baseline["mse"]), *_quality_cells(document, baseline, name))
        rows.append((BASELINE, UNKNOWN_CELL, *cells, UNKNOWN_CELL, UNKNOWN_CELL))
    return Grid(("epoch", "training loss", *_quality_names(document, name), "samples/s", "seconds"), rows, text_columns=0)


def phases_grid(document: Document) -> Grid:
    """Seconds of a step by phase, one row per rank; a benchmark's ranks case by case."""
    cases = [(f"{case['policy']} ", case) for case in document["cases"]] if document_type(document) == "bench" else [("", document)]
    rows: list[tuple[str, ...]] = []
    for policy, case in cases:
        ranks: dict[int, dict[str, Any]] = {}
        for entry in case.get("phases") or ():
            ranks.setdefault(entry["rank"], {"node": entry["node"]})[entry["phase"]] = entry["seconds"]
        for rank, seconds in list(ranks.items())[:MAX_PHASE_RANKS]:
            parts = (format_or_dash(seconds.get(phase), format_milliseconds) for phase in PHASES)
            rows.append((f"{policy}{rank} {printable(seconds['node'])}", *parts))
        if len(ranks) > MAX_PHASE_RANKS:
            rows.append((f"{policy}{len(ranks) - MAX_PHASE_RANKS} more, in result.json", *[""] * len(PHASES)))
    return Grid(("rank", *PHASES), rows)


def epoch_phases_grid(document: Document) -> Grid:
    """Phases by epoch and rank, first epoch included; empty unless there are several epochs."""
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for entry in document.get("phases") or ():
        for epoch, seconds in enumerate(entry["seconds_by_epoch"]):
            found.setdefault((epoch, entry["rank"]), {"node": entry["node"]})[entry["phase"]] = seconds
    if not any(epoch for epoch, _ in found):
        return Grid(("epoch", "rank", *PHASES), [])
    rows = [
        (
            str(epoch + 1),
            f"{rank} {printable(step['node'])}",
            *(format_or_dash(step.get(phase), format_milliseconds) for phase in PHASES),
        )
        for (epoch, rank), step in sorted(found.items())[:MAX_EPOCH_ROWS]
    ]
    if len(found) > MAX_EPOCH_ROWS:
        rows.append((f"{len(found) - MAX_EPOCH_ROWS} more, in result.json", "", *[""] * len(PHASES)))
    return Grid(("epoch", "rank", *PHASES), rows)


def _title(document: Document) -> str:
    devices = len(document["devices"])
    network = ", network too" if document.get("emulated_network") else ""
    label = f" (emulated{network})" if document["emulated"] else ""
    policy = f" · {document['policy']}" if "policy" in document else ""
    head = f"{document['workload']}{policy} on {devices} device{'s' if devices != 1 else ''}{label}"
    epochs, batch = document.get("planned_epochs"), document.get("global_batch_size")
    weights = f" · {number:,} parameters" if (number := document.get("parameters")) else ""
    weights += f" · {repeats} repeats, mean ± 95 % interval (standard deviation)" if (repeats := _repeats(document)) > 1 else ""
    return f"{head} · {epochs} epochs, first left out · global batch {batch}{weights}" if epochs and batch else head + weights


def _state(document: Document) -> str:
    state = document.get("state")
    reason = document.get("reason")
    return (f" {state}" if state else "") + (f": {printable(reason)}" if reason else "")


def _limit_line(document: Document) -> list[str]:
    """The limit that no sharing can exceed: all devices at their own pace, none waiting."""
    rates = [device["standalone_samples_per_second"] for device in document["devices"]]
    if not rates or None in rates:
        return ["The limit is unknown: not every device was measured alone."]
    measured = {case["policy"]: case["samples_per_second"] for case in document["cases"] if case["samples_per_second"] is not None}
    limit = limit_over(sum(rates), measured.values())
    label = "emulated " if document["emulated"] else ""
    if limit is None:
        best = max(measured, key=lambda policy: measured[policy])
        excess = format_percent(measured[best] / sum(rates) - 1)
        more = f"{excess} more than the {label}devices did alone ({sum(rates):,.0f} samples/s)"
        return [f"The limit is unknown: {best} measured {more}, so something slowed them while they were measured alone."]
    equal = measured.get("equal")
    over = f", {limit / equal:.2f}x equal" if equal else ""
    return [f"The limit is the sum of the {label}devices alone: {limit:,.0f} samples/s{over}."]


def limit_over(standalone: float, measured: Iterable[float]) -> float | None:
    """The limit to draw: the sum of the rates alone, or what a policy reached where that is as good as the same.

    None where a policy measured more than LIMIT_TOLERANCE above that sum: it is no limit then.
    """
    limit = max([standalone, *measured])
    return limit if limit <= (1 + LIMIT_TOLERANCE) * standalone else None


def _best_device_line(document: Document) -> list[str]:
    """The baseline of *over best device*; nothing for results of versions that did not measure it."""
    best = document.get("best_device")
    if not best:
        return []
    who = f"{printable(best['node'])} {printable(best['name'])}"
    label = "emulated " if document["emulated"] else ""
    rate = format_rate(best["samples_per_second"])
    return [f"The best {label}device alone at the global batch of {best['global_batch_size']:,}: {who}, {rate} samples/s."]


def _repeats(document: Document) -> int:
    """Planned rounds; 1 for results of versions before repeats."""
    return int(document.get("planned_repeats") or 1)


def _interval(case: Document, name: str, form: Callable[[float], str]) -> str:
    """The part behind a mean over repeats: its interval, and the standard deviation of the repeats; empty with one repeat."""
    half, spread = ((case.get(key) or {}).get(name) for key in ("half_widths", "deviations"))
    return "" if half is None else f" ± {form(half)}" + ("" if spread is None else f" (sd {form(spread)})")


def _doubt(case: Document) -> str:
    """The doubt behind a prediction; empty where none was stated."""
    doubt = case.get("predicted_doubt")
    return "" if doubt is None or case.get("predicted_samples_per_second") is None else f" ± {format_percent(doubt)}"


def _shared(document: Document) -> str:
    sizes = document["local_batch_sizes"]
    local = UNKNOWN_CELL if sizes is None else "/".join(map(str, sizes))
    changes = format_or_dash(document["changes"], lambda value: f"{value} change{'s' if value != 1 else ''}")
    throughput = format_or_dash(document["samples_per_second"], format_rate)
    if document.get("predicted_samples_per_second") is not None:
        error = document.get("prediction_error")
        deviation = "" if error is None else f", {format_signed_percent(error)}"
        throughput += f" ({document['predicted_samples_per_second']:,.0f}{_doubt(document)} predicted{deviation})"
    imbalance = format_or_dash(document["imbalance"], format_percent)
    joules = f" · {format_loss(value)} J/sample" if (value := document.get("joules_per_sample")) is not None else ""
    without_first = f"{throughput} samples/s without the first epoch"
    return f"{without_first} · local batches {local} after {changes} · imbalance {imbalance}{joules}"


def _notes(document: Document) -> list[str]:
    known = forecast_notes(document)
    ended = [] if document.get("state", "done") == "done" else [f"the run{_state(document)}"]
    cases = (
        [(f"{case['policy']}: ", case) for case in document["cases"]] if document_type(document) == "bench" else [("", document)]
    )
    found = [(who, case.get("bottleneck")) for who, case in cases]
    costly = [f"{who}{printable(bottleneck_sentence(one))}" for who, one in found if one and one["phase"] != COMPUTE]
    entries = document.get("stragglers", [])
    slow = [printable(straggler_sentence(entry)) for entry in entries[:MAX_STRAGGLER_NOTES]]
    more = (
        [f"and {len(entries) - MAX_STRAGGLER_NOTES} more stragglers, in result.json"] if len(entries) > MAX_STRAGGLER_NOTES else []
    )
    return ended + known + costly + slow + more + [f"warning: {printable(warning)}" for warning in document.get("warnings", ())]


def format_or_dash(value: Any, form: Callable[[Any], str]) -> str:
    """The formatted value, or a dash for None."""
    return UNKNOWN_CELL if value is None else form(value)


def format_rate(value: float) -> str:
    """A rate: no decimals from 100 on, else one."""
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"


def format_rate_like(value: float | None) -> Callable[[float], str]:
    """A formatter with the same number of decimals as ``value``."""
    return "{:,.0f}".format if value is None or value >= 100 else "{:,.1f}".format


def format_speedup(value: float) -> str:
    """A speed-up."""
    return f"{value:.2f}x"


def format_percent(value: float) -> str:
    """A fraction in whole percent."""
    return f"{value * 100:.0f} %"


def format_signed_percent(value: float) -> str:
    """A relative difference in percent, with its sign."""
    return f"{value * 100:+.1f} %"


def format_milliseconds(value: float) -> str:
    """Seconds as milliseconds: no decimals from 10 ms on, else one."""
    return f"{value * 1000:.0f}" if value >= 0.01 else f"{value * 1000:.1f}"


def format_loss(value: float) -> str:
    """A loss with four significant digits."""
    return f"{value:.4g}"


def format_r2(value: float) -> str:
    """A coefficient of determination, which the fourth decimal tells apart."""
    return f"{value:.4f}"


def metric_format(name: str) -> Callable[[float], str]:
    """The formatter of a metric by its name."""
    return (lambda value: f"{value * 100:.1f} %") if name == "accuracy" else format_loss


def printable(text: str) -> str:
    """Text from other machines, with everything that could move a cursor or break a row replaced by a question mark."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)
