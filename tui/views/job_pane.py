"""The run under the cursor of the Jobs screen, in tall terminals: progress, ranks, throughput and decisions. Pure."""

from __future__ import annotations

from dataclasses import replace

from paceline.engine.store.selectors import wall_clock
from paceline.engine.store.state import WAITING_JOB_ID, State, WaitingJob
from textual.strip import Strip

from ..messages import View
from ..terminal.format import age, clock, count, pad, sanitize
from ..theme import GLYPHS, PALETTE
from .drawing.lines import line
from .run.charts import throughput_chart
from .run.decisions import decision_lines
from .run.head import run_head
from .run.ranks import rank_heading, rank_keys, rank_legend, rank_line, ranks_layout

CHART_MIN_LINES = 9
"""Height from which the throughput chart is drawn, in lines."""
MAX_DECISION_LINES = 4
"""Lines for decisions and alerts."""


def job_pane(view: View, run_id: str, width: int, height: int) -> list[Strip]:
    """A small Run screen: head, ranks in up to a third of the height, throughput chart, last decisions."""
    if run_id == WAITING_JOB_ID and view.state.waiting is not None:
        return _waiting_job_lines(view.state, view.state.waiting, width, height)
    run = view.state.runs.get(run_id)
    if run is None:
        return []
    view = replace(view, run_id=run_id)
    blank = line(width)
    lines = [*run_head(view, width, 2), blank]
    if not run.ranks and not run.cases:
        return [*lines, line(width, ("Enter shows its charts and decisions" if run.is_over else "Enter follows it", PALETTE.dim))]
    if run.ranks:
        room = max(3, height // 3)
        keys = rank_keys(run, room)
        layout = ranks_layout(view, width)
        lines.append(rank_heading(view, layout, width))
        if layout is not None:
            lines += [rank_line(view, layout, key, width, False) for key in keys[:room]]
        lines += [*rank_legend(view, width, len(run.ranks) - room), blank]
    decisions = decision_lines(view, width, MAX_DECISION_LINES, hint="Enter leads to them")
    left = height - len(lines) - len(decisions) - 1
    if left >= CHART_MIN_LINES and any(case.throughput for case in run.cases):
        lines += [*throughput_chart(view, width, left), blank]
    return [*lines, *decisions][:height]


def _waiting_job_lines(state: State, job: WaitingJob, width: int, height: int) -> list[Strip]:
    """A waiting job: the devices it waits for and their users."""
    since = f"  since {clock(wall_clock(state, job.since))}, for {age(state.at - job.since)}"
    kind = "bench" if job.is_bench else "train"
    nodes = f"would run on {count(len(job.nodes), 'node')}: {', '.join(map(sanitize, job.nodes))}"
    head = (f"{kind} {sanitize(job.workload)}", PALETTE.strong)
    lines = [
        line(width, (f"{GLYPHS[WAITING_JOB_ID]} waiting  ", PALETTE.text), head, (since, PALETTE.dim)),
        line(width, (nodes, PALETTE.dim)),
        line(width),
    ]
    room = max(1, height - len(lines) - 3)
    for device, user in job.in_use[:room]:
        use = ("in use by ", PALETTE.dim)
        lines.append(line(width, (pad(sanitize(device), 40) + " ", PALETTE.text), use, (sanitize(user), PALETTE.text)))
    if len(job.in_use) > room:
        lines.append(line(width, (f"+{len(job.in_use) - room:,} hidden", PALETTE.dim)))
    lines += [line(width), line(width, ("it starts by itself when they are free; C stops waiting", PALETTE.dim))]
    return lines[:height]
