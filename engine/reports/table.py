"""Result documents as people read them: an aligned table for a terminal, and Markdown for report.md and the README.

Works on the documents alone, so a result.json of last year prints like today's. Unknown is shown as a dash, never as 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .document_type import document_type
from .phases import COMPUTE, PHASES, bottleneck_sentence
from .stragglers import straggler_sentence

Document = dict[str, Any]
UNKNOWN = "—"
STRAGGLERS = 8
"""As many have a line under a table."""
SPLIT_RANKS = 16
"""As many of a case have a row in the table of phases."""
SPLIT_EPOCHS = 64
"""Rows of steps epoch by epoch, a rank each, that a report tells."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A header and rows of cells; the first ``text_columns`` hold words, the others figures."""

    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    text_columns: int = 1

    def plain(self) -> str:
        """Columns aligned by spaces, figures to the right."""
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
    """A benchmark: a row a policy, the devices alone, the bound that the policies can reach, and what to beware of."""
    grids = [cases_grid(document).plain(), devices_grid(document).plain()]
    return "\n".join([_title(document), *grids, *_bound(document), *_notes(document)])


def train_table(document: Document) -> str:
    """A training: a row an epoch, then how the batch was shared."""
    return "\n".join([_title(document), epochs_grid(document).plain(), _shared(document), *_notes(document)])


def report_markdown(document: Document) -> str:
    """report.md of a run: the same facts, and what the words mean."""
    facts = [f"# {_title(document)}", "", f"Run `{document['run_id']}`{_state(document)}"]
    if document_type(document) == "bench":
        body = [bench_markdown(document), "", BENCH_WORDS]
    else:
        body = [epochs_grid(document).markdown(), "", _shared(document), "", TRAIN_WORDS]
    if (phases := phases_grid(document)).rows:
        body += ["", "## Where a step goes", "", phases.markdown(), "", PHASE_WORDS]
    if (by_epoch := epoch_phases_grid(document)).rows:
        body += ["", "### Epoch by epoch", "", by_epoch.markdown()]
    data = document["data"]
    source = f"Data: {printable(data['source'])}, {data['rows']:,} rows, sha256 `{data['sha256']}`."
    notes = [f"- {note}" for note in _notes(document)]
    return "\n".join([*facts, "", *body, "", source, *([""] if notes else []), *notes, ""])


def bench_markdown(document: Document) -> str:
    """Both grids of a benchmark and its bound, as they stand in report.md and in the README."""
    return "\n".join([cases_grid(document).markdown(), "", devices_grid(document).markdown(), "", *_bound(document)])


BENCH_WORDS = (
    "*±* is the 95 % interval of the mean over the repeats, by Student's t. *Off* is predicted over measured, less one.\n"
    "Throughput leaves the first epoch out and counts neither evaluation nor checkpoints. *Over best device* compares with the\n"
    "fastest device alone. *Of the limit* is throughput over the sum of the standalone rates at the case's own last local\n"
    "batches. *Imbalance* is (max − min) / mean of the ranks' mean compute seconds in full-size steps."
)
PHASE_WORDS = (
    "Milliseconds of a full-size step, first epoch left out. *Communication* is what nothing hides: the least wait of any rank.\n"
    "*Wait* is the rest, for other ranks; *host* is a stall of the thread that feeds the device."
)
TRAIN_WORDS = "Seconds run from the first step of an epoch to its last gradient: no evaluation, no checkpoint."


def cases_grid(document: Document) -> Grid:
    """The policies against each other."""
    name = next((case["metric_name"] for case in document["cases"] if case.get("metric_name")), "accuracy")
    header: tuple[str, ...] = (
        "policy",
        "samples/s",
        "over equal",
        "over best device",
        "of the limit",
        "imbalance",
        "changes",
        "loss",
        name,
        "J/sample",
    )
    rows: list[tuple[str, ...]] = [
        (
            case["policy"],
            shown(case["samples_per_second"], count)
            + _interval(case, "samples_per_second", count_like(case["samples_per_second"])),
            shown(case["speedup_over_equal"], times) + _interval(case, "speedup_over_equal", "{:.2f}".format),
            shown(case["speedup_over_best_device"], times),
            shown(case["balance_efficiency"], percent),
            shown(case["imbalance"], percent),
            shown(case["changes"], str),
            shown(case["loss"], small) + _interval(case, "loss", "{:.2g}".format),
            shown(case["accuracy"] if name == "accuracy" else case["metric"], quality(name))
            + _interval(case, "metric", quality(name)),
            shown(case.get("joules_per_sample"), small),
        )
        for case in document["cases"]
    ]
    if any(case.get("predicted_samples_per_second") is not None for case in document["cases"]):
        header = (*header[:2], "predicted", "off", *header[2:])
        foreseen = [
            (shown(case.get("predicted_samples_per_second"), count), shown(case.get("prediction_error"), signed))
            for case in document["cases"]
        ]
        rows = [(*cells[:2], *words, *cells[2:]) for cells, words in zip(rows, foreseen, strict=True)]
    if _repeats(document) > 1:
        header = (header[0], "repeats", *header[1:])
        rows = [(row[0], shown(case.get("repeats"), str), *row[1:]) for row, case in zip(rows, document["cases"], strict=True)]
    if (baseline := document["data"].get("baseline_mse")) is not None:
        rows.append(
            (
                "repeat the last value",
                *[UNKNOWN] * (len(header) - 4),
                small(baseline),
                small(baseline) if name == "mse" else UNKNOWN,
                UNKNOWN,
            )
        )
    return Grid(header, rows)


def devices_grid(document: Document) -> Grid:
    """The devices alone, with the local batch of the case that stands for the benchmark."""
    label = "emulated device" if document["emulated"] else "device"
    rows = [
        (printable(device["node"]), printable(device["name"]), shown(device["standalone_samples_per_second"], count))
        for device in document["devices"]
    ]
    return Grid(("node", label, "samples/s alone"), rows, text_columns=2)


def epochs_grid(document: Document) -> Grid:
    """The epochs of one training."""
    name = next((epoch["metric_name"] for epoch in document["epochs"] if epoch["metric_name"]), "metric")
    rows = [
        (
            str(epoch["epoch"]),
            shown(epoch["training_loss"], small),
            shown(epoch["loss"], small),
            shown(epoch["metric"], quality(name)),
            shown(epoch["samples_per_second"], count),
            shown(epoch["seconds"], "{:.2f}".format),
        )
        for epoch in document["epochs"]
    ]
    return Grid(("epoch", "training loss", "loss", name, "samples/s", "seconds"), rows, text_columns=0)


def phases_grid(document: Document) -> Grid:
    """What each rank spends a step on; a benchmark's ranks case by case."""
    cases = [(f"{case['policy']} ", case) for case in document["cases"]] if document_type(document) == "bench" else [("", document)]
    rows: list[tuple[str, ...]] = []
    for policy, case in cases:
        ranks: dict[int, dict[str, Any]] = {}
        for entry in case.get("phases") or ():
            ranks.setdefault(entry["rank"], {"node": entry["node"]})[entry["phase"]] = entry["seconds"]
        for rank, seconds in list(ranks.items())[:SPLIT_RANKS]:
            parts = (shown(seconds.get(phase), milliseconds) for phase in PHASES)
            rows.append((f"{policy}{rank} {printable(seconds['node'])}", *parts))
        if len(ranks) > SPLIT_RANKS:
            rows.append((f"{policy}{len(ranks) - SPLIT_RANKS} more, in result.json", *[""] * len(PHASES)))
    return Grid(("rank", *PHASES), rows)


def epoch_phases_grid(document: Document) -> Grid:
    """The same epoch by epoch, the one that warms up included; of a training of several epochs."""
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for entry in document.get("phases") or ():
        for epoch, seconds in enumerate(entry["seconds_by_epoch"]):
            found.setdefault((epoch, entry["rank"]), {"node": entry["node"]})[entry["phase"]] = seconds
    if not any(epoch for epoch, _ in found):
        return Grid(("epoch", "rank", *PHASES), [])
    rows = [
        (str(epoch + 1), f"{rank} {printable(step['node'])}", *(shown(step.get(phase), milliseconds) for phase in PHASES))
        for (epoch, rank), step in sorted(found.items())[:SPLIT_EPOCHS]
    ]
    if len(found) > SPLIT_EPOCHS:
        rows.append((f"{len(found) - SPLIT_EPOCHS} more, in result.json", "", *[""] * len(PHASES)))
    return Grid(("epoch", "rank", *PHASES), rows)


def _title(document: Document) -> str:
    devices = len(document["devices"])
    network = ", network too" if document.get("emulated_network") else ""
    label = f" (emulated{network})" if document["emulated"] else ""
    policy = f" · {document['policy']}" if "policy" in document else ""
    head = f"{document['workload']}{policy} on {devices} device{'s' if devices != 1 else ''}{label}"
    epochs, batch = document.get("planned_epochs"), document.get("global_batch_size")
    weights = f" · {number:,} parameters" if (number := document.get("parameters")) else ""
    weights += f" · {repeats} repeats, mean ± 95 % interval" if (repeats := _repeats(document)) > 1 else ""
    return f"{head} · {epochs} epochs, first left out · global batch {batch}{weights}" if epochs and batch else head + weights


def _state(document: Document) -> str:
    state = document.get("state")
    reason = document.get("reason")
    return (f" {state}" if state else "") + (f": {printable(reason)}" if reason else "")


def _bound(document: Document) -> list[str]:
    """What no sharing can exceed: all devices at their own pace, none waiting."""
    rates = [device["standalone_samples_per_second"] for device in document["devices"]]
    if not rates or None in rates:
        return ["The limit is unknown: not every device was measured alone."]
    limit = sum(rates)
    equal = next((case["samples_per_second"] for case in document["cases"] if case["policy"] == "equal"), None)
    over = f", {limit / equal:.2f}x equal" if equal else ""
    label = "emulated " if document["emulated"] else ""
    return [f"The limit is the sum of the {label}devices alone: {limit:,.0f} samples/s{over}."]


def _repeats(document: Document) -> int:
    """Rounds that were planned; one where a result is older than they are."""
    return int(document.get("planned_repeats") or 1)


def _interval(case: Document, name: str, form: Callable[[float], str]) -> str:
    """What stands behind a mean over repeats; nothing where there is no interval."""
    half = (case.get("half_widths") or {}).get(name)
    return "" if half is None else f" ± {form(half)}"


def _shared(document: Document) -> str:
    sizes = document["local_batch_sizes"]
    local = UNKNOWN if sizes is None else "/".join(map(str, sizes))
    changes = shown(document["changes"], lambda value: f"{value} change{'s' if value != 1 else ''}")
    throughput = shown(document["samples_per_second"], count)
    if document.get("predicted_samples_per_second") is not None:
        off = document.get("prediction_error")
        throughput += f" ({document['predicted_samples_per_second']:,.0f} predicted{'' if off is None else f', {signed(off)}'})"
    imbalance = shown(document["imbalance"], percent)
    joules = f" · {small(value)} J/sample" if (value := document.get("joules_per_sample")) is not None else ""
    told = f"{throughput} samples/s without the first epoch · local batches {local} after {changes} · imbalance {imbalance}"
    return told + joules


def _notes(document: Document) -> list[str]:
    baseline = document["data"].get("baseline_mse") if document_type(document) == "train" else None
    known = [] if baseline is None else [f"repeating the last value, without a model, has a loss of {small(baseline)}"]
    ended = [] if document.get("state", "done") == "done" else [f"the run{_state(document)}"]
    cases = (
        [(f"{case['policy']}: ", case) for case in document["cases"]] if document_type(document) == "bench" else [("", document)]
    )
    found = [(who, case.get("bottleneck")) for who, case in cases]
    costly = [f"{who}{printable(bottleneck_sentence(one))}" for who, one in found if one and one["phase"] != COMPUTE]
    entries = document.get("stragglers", [])
    slow = [printable(straggler_sentence(entry)) for entry in entries[:STRAGGLERS]]
    more = [f"and {len(entries) - STRAGGLERS} more stragglers, in result.json"] if len(entries) > STRAGGLERS else []
    return ended + known + costly + slow + more + [f"warning: {printable(warning)}" for warning in document.get("warnings", ())]


def shown(value: Any, form: Callable[[Any], str]) -> str:
    """A figure in its form, or a dash."""
    return UNKNOWN if value is None else form(value)


def count(value: float) -> str:
    """A rate: whole numbers where they are large enough to say something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"


def count_like(value: float | None) -> Callable[[float], str]:
    """How what is added to a rate is written: with its digits."""
    return "{:,.0f}".format if value is None or value >= 100 else "{:,.1f}".format


def times(value: float) -> str:
    """A speed-up."""
    return f"{value:.2f}x"


def percent(value: float) -> str:
    """A fraction from 0 to 1 (or beyond) in whole percent."""
    return f"{value * 100:.0f} %"


def signed(value: float) -> str:
    """A difference as a share, in percent with its sign."""
    return f"{value * 100:+.1f} %"


def milliseconds(value: float) -> str:
    """Seconds of a part of a step: whole milliseconds where they are large enough to say something."""
    return f"{value * 1000:.0f}" if value >= 0.01 else f"{value * 1000:.1f}"


def small(value: float) -> str:
    """A loss: four significant digits."""
    return f"{value:.4g}"


def quality(name: str) -> Callable[[float], str]:
    """How the metric of that name is written."""
    return (lambda value: f"{value * 100:.1f} %") if name == "accuracy" else small


def printable(text: str) -> str:
    """Names come from other machines: what could move a cursor or break a row is shown as a question mark."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)
