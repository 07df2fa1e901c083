"""What happened in a run that matters: decisions and whether they helped, stragglers, failures; what is wrong now. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from paceline.engine.store.selectors import open_alerts, wall_clock
from paceline.engine.store.state import Alert, CaseState, Decision, RunState, State, Straggler
from paceline.engine.store.straggler_alerts import describe
from textual.strip import Strip

from ...messages import View
from ...terminal.format import UNKNOWN, age, clock, milliseconds, pad, untrusted
from ...theme import GLYPHS, PALETTE
from ..drawing.lines import NONE, Piece, line

TOLERANCE = 0.1
"""A measured step time that exceeds the predicted one by this share or more broke the promise."""


FEW = 4
"""Lines below which only decisions are told."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened in a run, at a moment one can go to."""

    key: str
    at: float
    what: Decision | Straggler | Alert
    case: CaseState | None = None


def moments(state: State, run: RunState | None) -> list[Moment]:
    """Decisions, stragglers and failures of a run and its nodes, newest first."""
    if run is None:
        return []
    found: list[Moment] = []
    for case in run.cases:
        found += [Moment(f"decision {case.name} {one.step}", one.at, one, case) for one in case.decisions]
        found += [Moment(f"straggler {case.name} {one.found.straggler} {one.at}", one.at, one, case) for one in case.stragglers]
    end = run.ended_at if run.ended_at is not None else state.at
    nodes = set(run.nodes)
    found += [
        Moment(f"alert {alert.key} {alert.at}", alert.at, alert)
        for alert in state.alerts
        if not alert.key.startswith("straggler ")
        and (alert.run_id == run.run_id or (not alert.run_id and alert.node in nodes and run.first_at <= alert.at <= end))
    ]
    return sorted(found, key=lambda moment: (moment.at, moment.key), reverse=True)


def sizes(local_batch_sizes: tuple[int, ...]) -> str:
    """``183/131/28/42``; many ranks in short."""
    if len(local_batch_sizes) > 8:
        return f"{min(local_batch_sizes)}…{max(local_batch_sizes)} on {len(local_batch_sizes)} ranks"
    return "/".join(map(str, local_batch_sizes)) or UNKNOWN


def decision_lines(
    view: View, width: int, height: int, looked_at: str | None = None, way: str = "n and N go through them"
) -> list[Strip]:
    """What happened, newest first, from the moment that is looked at where the newest ones would hide it.

    ``way``: how to come to the others.
    """
    found = moments(view.state, view.run)
    if not found:
        text = "no shares changed so far; each change appears here with its effect"
        return [line(width, (text, PALETTE.dim))]
    if height < FEW:
        # Where there is room for one, it is the last decision: trouble stands in the line below.
        found = [moment for moment in found if isinstance(moment.what, Decision) or moment.key == looked_at] or found
    blocks = [_moment(view, moment, width, moment.key == looked_at) for moment in found]
    at = next((index for index, moment in enumerate(found) if moment.key == looked_at), 0)
    first = 0
    while first < at and sum(map(len, blocks[first : at + 1])) > height - 1:
        first += 1
    lines: list[Strip] = []
    shown = 0
    for block in blocks[first:]:
        if lines and len(lines) + len(block) > height - (first + shown + 1 < len(blocks)):
            break
        lines += block
        shown += 1
    hidden = len(found) - shown
    if hidden and len(lines) < height:
        lines.append(line(width, (f"+{hidden} hidden", PALETTE.accent), (f"  {way}", PALETTE.dim)))
    return lines[:height]


def _moment(view: View, moment: Moment, width: int, is_looked_at: bool) -> list[Strip]:
    background = PALETTE.cursor if is_looked_at else NONE
    start: list[Piece] = [(f"{clock(wall_clock(view.state, moment.at))}  ", PALETTE.accent if is_looked_at else PALETTE.dim)]
    match moment.what:
        case Decision():
            rows = _decision(moment.what, start, width)
        case Straggler():
            rows = _straggler(view, moment.what, start, width)
        case Alert():
            rows = _trouble(moment.what, start)
    return [line(width, *pieces, background=background) for pieces in rows]


def _place(case: str, step: int) -> list[Piece]:
    return [(pad(untrusted(case), 13), PALETTE.accent), (pad(f"step {step}", 10), PALETTE.text)]


def _decision(decision: Decision, start: list[Piece], width: int) -> list[list[Piece]]:
    first: list[Piece] = [
        *start,
        *_place(decision.case, decision.step),
        (sizes(decision.before), PALETTE.dim),
        (" → ", PALETTE.dim),
        (sizes(decision.after), PALETTE.strong),
    ]
    effect: list[Piece] = []
    if decision.predicted_after is not None:
        before = milliseconds(decision.predicted_before)
        effect.append((f"predicted {before} → {milliseconds(decision.predicted_after)} ms a step", PALETTE.dim))
    effect += _came_of_it(decision)
    reason: Piece = (untrusted(decision.reason), PALETTE.text)
    if width >= 110:
        return [first, [(" " * 10, PALETTE.dim), reason, (" · ", PALETTE.dim), *effect]]
    return [first, [("  ", PALETTE.dim), *effect], [("  ", PALETTE.dim), reason]]


def _came_of_it(decision: Decision) -> list[Piece]:
    """Measured against predicted: kept its promise, or by how much not."""
    if decision.measured is None:
        return [(" · being measured", PALETTE.dim)]
    pieces: list[Piece] = [(f" · measured {milliseconds(decision.measured)} ms", PALETTE.text)]
    if decision.predicted_after:
        off = decision.measured / decision.predicted_after - 1
        pieces.append((" ✔", PALETTE.ok) if off < TOLERANCE else (f" ✖ {off:+.0%}", PALETTE.warning))
    return pieces


def _straggler(view: View, straggler: Straggler, start: list[Piece], width: int) -> list[list[Piece]]:
    event, run = straggler.found, view.run
    assert run is not None
    sign: Piece = (f"{GLYPHS['warning']} ", PALETTE.warning if straggler.is_open else PALETTE.dim)
    rank = run.ranks.get(event.straggler) if event.straggler is not None else None
    node = f"{untrusted(rank.node)} " if rank is not None else ""
    words = node + untrusted(describe(run, straggler))
    rows: list[list[Piece]] = [[*start, *_place(event.case, event.step), sign, (words, PALETTE.text)]]
    if width < 110:
        rows = [[*start, *_place(event.case, event.step)], [("  ", PALETTE.dim), sign, (words, PALETTE.text)]]
    if straggler.ended is not None:
        gain = "" if straggler.ended.gain is None else f"; changed shares brought back {straggler.ended.gain:.0%} of the lost time"
        said = f"itself again at step {straggler.ended.step}{gain}"
        rows.append([(" " * (10 if width >= 110 else 4), PALETTE.dim), (said, PALETTE.dim)])
    return rows


def _trouble(alert: Alert, start: list[Piece]) -> list[list[Piece]]:
    style = PALETTE.dim if alert.ended_at is not None else PALETTE.of(alert.severity)
    what = " ".join(filter(None, (untrusted(alert.node), untrusted(alert.text))))
    return [[*start, (f"{GLYPHS[alert.severity]} ", style), (what, PALETTE.text)]]


def alert_lines(view: View, width: int, height: int) -> list[Strip]:
    """What is wrong with the run or its nodes right now; worst first."""
    alerts = open_alerts(view.state, view.run)
    if not alerts:
        return [line(width, (f"{GLYPHS['ok']} ", PALETTE.ok), ("nothing is wrong", PALETTE.dim))]
    lines: list[Strip] = []
    for index, alert in enumerate(alerts):
        if len(lines) >= height:
            break
        what = " ".join(filter(None, (untrusted(alert.node), untrusted(alert.text))))
        since = age(view.state.at - alert.at)
        left = len(alerts) - index - 1
        is_last = len(lines) + 1 == height
        more = f"  (+{left}, 4 shows all)" if is_last and left else ""
        room = width - 2 - len(since) - 2 - len(more)
        pieces: list[Piece] = [(f"{GLYPHS[alert.severity]} ", PALETTE.of(alert.severity)), (pad(what, room), PALETTE.text)]
        lines.append(line(width, *pieces, (f"  {since}{more}", PALETTE.dim)))
        said = " · ".join(filter(None, (alert.deed, alert.hint)))
        if said and len(lines) + (left > 0) < height:
            lines.append(line(width, (f"  {untrusted(said)}", PALETTE.dim)))
    return lines
