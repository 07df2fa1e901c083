"""The run under the cursor of the list of jobs, on screens that have room for it: how far, who works, how fast. Pure."""

from __future__ import annotations

from dataclasses import replace

from paceline.engine.store.selectors import wall_clock
from paceline.engine.store.state import WAITING, State, WaitingJob
from textual.strip import Strip

from ..messages import View
from ..terminal.format import age, clock, count, pad, untrusted
from ..theme import GLYPHS, PALETTE
from .drawing.lines import line
from .run.charts import throughput_chart
from .run.decisions import decision_lines
from .run.head import run_head
from .run.ranks import rank_heading, rank_legend, rank_line, rank_order, ranks_layout

CHART = 9
"""Lines from which a curve says something."""
DECISIONS = 4
"""Lines for what was decided and what went wrong."""


def job_pane(view: View, run_id: str, width: int, height: int) -> list[Strip]:
    """The Run screen in small: head, ranks as far as a third of the room goes, the curve, the last decisions."""
    if run_id == WAITING and view.state.waiting is not None:
        return _waiting(view.state, view.state.waiting, width, height)
    run = view.state.runs.get(run_id)
    if run is None:
        return []
    view = replace(view, run_id=run_id)
    blank = line(width)
    lines = [*run_head(view, width, 2), blank]
    if run.ranks:
        room = max(3, height // 3)
        keys = rank_order(run, room)
        seen = ranks_layout(view, width)
        lines.append(rank_heading(view, seen, width))
        if seen is not None:
            lines += [rank_line(view, seen, key, width, False) for key in keys[:room]]
        lines += [*rank_legend(view, width, len(run.ranks) - room), blank]
    decided = decision_lines(view, width, DECISIONS, way="Enter leads to them")
    left = height - len(lines) - len(decided) - 1
    if left >= CHART and any(case.throughput for case in run.cases):
        lines += [*throughput_chart(view, width, left), blank]
    return [*lines, *decided][:height]


def _waiting(state: State, job: WaitingJob, width: int, height: int) -> list[Strip]:
    """A job that is no run yet: what it waits for, device by device."""
    since = f"  since {clock(wall_clock(state, job.since))}, for {age(state.at - job.since)}"
    kind = "bench" if job.is_bench else "train"
    nodes = f"would run on {count(len(job.nodes), 'node')}: {', '.join(map(untrusted, job.nodes))}"
    head = (f"{kind} {untrusted(job.workload)}", PALETTE.strong)
    lines = [
        line(width, (f"{GLYPHS[WAITING]} waiting  ", PALETTE.text), head, (since, PALETTE.dim)),
        line(width, (nodes, PALETTE.dim)),
        line(width),
    ]
    room = max(1, height - len(lines) - 3)
    for device, user in job.in_use[:room]:
        use = ("in use by ", PALETTE.dim)
        lines.append(line(width, (pad(untrusted(device), 40) + " ", PALETTE.text), use, (untrusted(user), PALETTE.text)))
    if len(job.in_use) > room:
        lines.append(line(width, (f"+{len(job.in_use) - room:,} hidden", PALETTE.dim)))
    lines += [line(width), line(width, ("it starts by itself when they are free; C gives up waiting", PALETTE.dim))]
    return lines[:height]
