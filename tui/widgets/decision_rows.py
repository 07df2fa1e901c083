"""What was decided and whether it helped, and what is wrong right now. Pure."""

from __future__ import annotations

from paceline.engine.store.questions import open_alerts, wall_clock
from paceline.engine.store.state import Decision, State
from textual.strip import Strip

from ..format import UNKNOWN, age, clock, fit, milliseconds, untrusted
from ..messages import View
from ..theme import GLYPHS, PALETTE
from .lines import Piece, line


def sizes(local_batch_sizes: tuple[int, ...]) -> str:
    """``183/131/28/42``; many ranks in short."""
    if len(local_batch_sizes) > 8:
        return f"{min(local_batch_sizes)}…{max(local_batch_sizes)} on {len(local_batch_sizes)} ranks"
    return "/".join(map(str, local_batch_sizes)) or UNKNOWN


def decision_lines(view: View, width: int, height: int) -> list[Strip]:
    """Changes of the shares, newest first: what, why, what was expected, what came of it."""
    run = view.run
    found = [decision for case in (run.cases if run else ()) for decision in case.decisions]
    if not found:
        text = "no shares changed so far; each change appears here with its effect"
        return [line(width, (text, PALETTE.dim))]
    lines: list[Strip] = []
    for decision in sorted(found, key=lambda one: (one.at, one.step), reverse=True):
        if len(lines) >= height:
            break
        lines += _decision(view.state, decision, width)
    return lines


def _decision(state: State, decision: Decision, width: int) -> list[Strip]:
    when = clock(wall_clock(state, decision.at))
    first: list[Piece] = [
        (f"{when}  ", PALETTE.dim),
        (fit(untrusted(decision.case), 13), PALETTE.accent),
        (fit(f"step {decision.step}", 10), PALETTE.text),
        (sizes(decision.before), PALETTE.dim),
        (" → ", PALETTE.dim),
        (sizes(decision.after), PALETTE.strong),
    ]
    effect: list[Piece] = []
    if decision.predicted_after is not None:
        before = milliseconds(decision.predicted_before)
        effect.append((f"predicted {before} → {milliseconds(decision.predicted_after)} ms", PALETTE.dim))
    if decision.measured is not None:
        effect.append((f" · measured {milliseconds(decision.measured)} ms", PALETTE.text))
        if decision.predicted_after:
            is_true = abs(decision.measured - decision.predicted_after) <= 0.1 * decision.predicted_after
            off = decision.measured / decision.predicted_after - 1
            effect.append((" ✔", PALETTE.ok) if is_true else (f" {off:+.0%}", PALETTE.warning))
    else:
        effect.append((" · being measured", PALETTE.dim))
    reason: Piece = (untrusted(decision.reason), PALETTE.text)
    if width >= 110:
        return [line(width, *first), line(width, (" " * 10, PALETTE.dim), reason, (" · ", PALETTE.dim), *effect)]
    return [line(width, *first), line(width, ("  ", PALETTE.dim), *effect), line(width, ("  ", PALETTE.dim), reason)]


def alert_lines(view: View, width: int, height: int) -> list[Strip]:
    """What is wrong with the run or its nodes right now; worst first."""
    alerts = open_alerts(view.state, view.run)
    if not alerts:
        return [line(width, (f"{GLYPHS['ok']} ", PALETTE.ok), ("nothing is wrong", PALETTE.dim))]
    lines: list[Strip] = []
    for alert in alerts:
        if len(lines) >= height:
            break
        what = " ".join(filter(None, (untrusted(alert.node), untrusted(alert.text))))
        since = age(view.state.at - alert.at)
        more = f"  (+{len(alerts) - 1}, 4 shows all)" if height == 1 and len(alerts) > 1 else ""
        room = width - 2 - len(since) - 2 - len(more)
        pieces: list[Piece] = [(f"{GLYPHS[alert.severity]} ", PALETTE.of(alert.severity)), (fit(what, room), PALETTE.text)]
        lines.append(line(width, *pieces, (f"  {since}{more}", PALETTE.dim)))
        if alert.hint and len(lines) < height:
            lines.append(line(width, (f"  {untrusted(alert.hint)}", PALETTE.dim)))
    return lines
