"""Advice as lines: the verdict, ways to train with bars, what would help, where it would turn, what is supposed. Pure.

The advisor is pure and quick, so what a person supposes is answered at once, from the profile that the state holds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from textwrap import wrap
from typing import Any

from paceline.engine.advisor.advise import Advice, advise
from paceline.engine.advisor.predict import Prediction
from paceline.engine.advisor.profile_from_document import read_profile
from paceline.engine.advisor.whatif import link_of, with_link, without
from paceline.engine.errors import PacelineError
from paceline.engine.profiles.profile import Profile
from paceline.engine.workloads import WORKLOADS
from textual.strip import Strip

from ..terminal.format import UNKNOWN, count, number, pad, pad_left, percent, ratio, size, untrusted
from ..theme import GLYPHS, PALETTE
from .drawing.lines import NONE, Piece, bar, line, spread

WIDE = 110
"""Columns from which a row shows more than what a person compares first."""
BAR = (14, 40)
"""Cells of a bar where there is little room, and at most."""
ALL = 118
"""Cells that a whole row takes beside what its bar has more than the least."""
BATCH = 256
"""Asked for of a workload that is not known here."""
MOST = 1 << 20
"""Samples of the largest batch that can be supposed."""


@dataclass(frozen=True, slots=True)
class WhatIfChoice:
    """What a person supposes on the screen."""

    without: frozenset[int] = frozenset()
    """Places of devices in the profile."""
    network: float = 1.0
    """Times as fast as measured."""
    batch: float = 1.0
    """Times the workload's own."""


@dataclass(frozen=True, slots=True)
class AdviceView:
    """What there is to draw."""

    profile: Profile
    """As measured, all devices."""
    supposed: WhatIfChoice
    is_emulated: bool
    under: Profile | None = None
    """What the advice is about."""
    advice: Advice | None = None
    reason: str = ""
    """Why there is none."""


def advice_view(document: dict[str, Any] | None, supposed: WhatIfChoice) -> AdviceView | None:
    """The advice on a profile document; None: there is no profile."""
    profile = read_profile(document)
    return None if profile is None else _advised(_Frozen(profile), supposed)


class _Frozen:
    """A profile as a key: profiles hold dictionaries, and the same one is asked for at every frame."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self._words = repr(profile)

    def __hash__(self) -> int:
        return hash(self._words)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Frozen) and self._words == other._words


@lru_cache(maxsize=32)
def _advised(frozen: _Frozen, supposed: WhatIfChoice) -> AdviceView:
    profile = frozen.profile
    found = AdviceView(profile, supposed, any(device.kind == "emulated" for device in profile.devices))
    workload = WORKLOADS.get(profile.workload)
    batch = int((workload.global_batch_size if workload is not None else BATCH) * supposed.batch)
    try:
        under = without(profile, supposed.without) if supposed.without else profile
        if supposed.network != 1.0 and (link := link_of(under)) is not None:
            under = with_link(under, link[1] * supposed.network, link[0] / supposed.network)
        return replace(found, under=under, advice=advise(under, min(max(1, batch), MOST)))
    except (PacelineError, ArithmeticError) as error:
        return replace(found, reason=str(error))


def ways(found: AdviceView | None) -> list[Prediction]:
    """Those at the batch that is supposed, fastest first."""
    if found is None or found.advice is None:
        return []
    batch = found.advice.recommended.candidate.global_batch_size
    return [one for one in found.advice.candidates if one.candidate.global_batch_size == batch]


def verdict_lines(found: AdviceView | None, others: int, width: int, height: int) -> list[Strip]:
    """Does it pay, in a word that can be read from afar; the sentence; what is supposed."""
    if found is None:
        return [line(width, ("no profile yet: press : and type  advise  or  profile", PALETTE.dim))]
    network = ", network too" if found.profile.is_network_emulated else ""
    about = untrusted(found.profile.workload) + (f", emulated{network}" if found.is_emulated else "")
    end: list[Piece] = [(f"← → {count(others, 'workload')}" if others > 1 else "", PALETTE.dim)]
    if found.advice is None:
        lines = [spread(width, [("NO ADVICE", PALETTE.warning), (f"  {about}", PALETTE.dim)], end)]
        return [*lines, line(width, (untrusted(found.reason), PALETTE.warning)), _supposed(found, width)][:height]
    advice = found.advice
    speedup = advice.speedup(advice.asked)
    word, style = ("PAYS", PALETTE.ok) if advice.verdict.startswith("It pays") else ("DOES NOT PAY", PALETTE.warning)
    if advice.verdict.startswith(("It makes", "There is")):
        word, style = "NO DIFFERENCE", PALETTE.text
    told: list[Piece] = [
        (f"{GLYPHS['ok' if word == 'PAYS' else 'warning']} {word}  {ratio(speedup)}", style),
        (f"  {about}", PALETTE.dim),
    ]
    lines = [spread(width, told, end)]
    lines += [line(width, (text, PALETTE.text)) for text in _wrapped(advice.verdict, width, height - 2)]
    return [*lines, _supposed(found, width)][:height]


def _wrapped(text: str, width: int, most: int) -> list[str]:
    return wrap(untrusted(text, 600), max(20, width), max_lines=max(1, most), placeholder=" …")


def _supposed(found: AdviceView, width: int) -> Strip:
    supposed = found.supposed
    profile = found.profile
    gone = [f"{untrusted(profile.devices[place].node)}:{profile.devices[place].index}" for place in sorted(supposed.without)]
    parts = [f"without {', '.join(gone)}"] if gone else []
    parts += [f"network {supposed.network:g}x as fast"] if supposed.network != 1 else []
    parts += [f"batch {supposed.batch:g}x"] if supposed.batch != 1 else []
    text, style = (f"what if: {'; '.join(parts)}", PALETTE.accent) if parts else ("as measured", PALETTE.dim)
    return line(width, (text, style))


def _bar(width: int) -> int:
    return min(BAR[1], BAR[0] + max(0, width - ALL))


def way_heading(width: int) -> Strip:
    """Names of the columns."""
    text = f"  {pad('devices', 24)}{pad('shares', 10)}{pad('samples/s', _bar(width) + 9)}{pad_left('speed-up', 9)}"
    wide = f"{pad_left('efficiency', 12)}{pad_left('exposed', 11)}{pad_left('ratio', 8)}   local batches"
    return line(width, (text + (wide if width >= WIDE else ""), PALETTE.dim))


def way_row(found: AdviceView | None, key: str, width: int, is_under_cursor: bool) -> Strip:
    """One way to train."""
    background = PALETTE.cursor if is_under_cursor else NONE
    listed = ways(found)
    if found is None or found.advice is None or found.under is None or not key.isdecimal() or int(key) >= len(listed):
        return Strip.blank(width, NONE)
    advice, one = found.advice, listed[int(key)]
    devices = [found.under.devices[place] for place in one.candidate.devices]
    named = ",".join(untrusted(device.node) + (f":{device.index}" if device.index else "") for device in devices)
    is_best = one == advice.recommended
    speedup = advice.speedup(one)
    pieces: list[Piece] = [
        (f"{GLYPHS['ok'] if is_best else ' '} ", PALETTE.ok),
        (pad(named, 23) + " ", PALETTE.strong if is_best else PALETTE.text),
        (pad("balanced" if one.candidate.is_balanced else "equal", 10), PALETTE.text),
        (bar(one.samples_per_second / listed[0].samples_per_second, _bar(width)), PALETTE.bar),
        (pad_left(number(one.samples_per_second), 9), PALETTE.text),
        (pad_left(ratio(speedup), 9), PALETTE.ok if speedup > 1.05 else PALETTE.warning if speedup < 0.95 else PALETTE.text),
    ]
    if width >= WIDE:
        compared = UNKNOWN if one.ratio is None else f"{one.ratio:.2f}"
        pieces.append(
            (pad_left(percent(advice.efficiency(one)), 12) + pad_left(f"{one.exposed_seconds * 1000:,.1f} ms", 11), PALETTE.text)
        )
        pieces.append((pad_left(compared, 8) + "   " + "/".join(map(str, one.local_batch_sizes)), PALETTE.dim))
    return line(width, *pieces, background=background)


def help_lines(found: AdviceView | None, width: int, height: int) -> list[Strip]:
    """What would help, best first; where it would turn; what is serial."""
    if found is None or found.advice is None:
        return []
    advice = found.advice
    least, wire = advice.break_even_batch, advice.break_even_bandwidth
    from_wire = UNKNOWN if wire is None else "any link" if wire == 0 else f"{size(int(wire))}/s"
    turns = f"1.1x from a batch of {number(least)}, or from links of {from_wire}; {percent(advice.serial_part)} of a step is serial"
    lines = [line(width, (pad("turns at", 10), PALETTE.dim), (turns, PALETTE.text))]
    most = max((remedy.speedup for remedy in advice.remedies), default=1.0)
    amount = 9 if width >= WIDE else 6
    option = max((len(remedy.options) for remedy in advice.remedies), default=0)
    room = min(max((len(remedy.name) for remedy in advice.remedies), default=0) + 3, width - amount - option - 10)
    for remedy in advice.remedies:
        told = f" {ratio(remedy.speedup):>6}  {pad(untrusted(remedy.name), room)}"
        drawn = (bar(remedy.speedup / most, amount) + " ", PALETTE.bar)
        lines.append(line(width, drawn, (told, PALETTE.text), (untrusted(remedy.options), PALETTE.dim)))
    if len(lines) > height:
        lines = [*lines[: max(0, height - 1)], line(width, (f"+{len(lines) - height + 1} lines out of sight", PALETTE.dim))]
    return lines


def device_lines(found: AdviceView | None, width: int, height: int) -> list[Strip]:
    """Who takes part, by number: its key takes it out and puts it back."""
    if found is None:
        return []
    lines = []
    for place, device in enumerate(found.profile.devices):
        is_gone = place in found.supposed.without
        key = f"F{place + 2}" if place < 8 else "  "
        rate = number(device.rate) + " samples/s" if device.rate else untrusted(device.error or "was not timed")
        sign = GLYPHS["failed" if is_gone else "ok"]
        lines.append(
            line(
                width,
                (f"{key:<4}", PALETTE.accent),
                (f"{sign} ", PALETTE.dim if is_gone else PALETTE.ok),
                (
                    pad(f"{untrusted(device.node)}:{device.index} {untrusted(device.name)}", 30) + " ",
                    PALETTE.dim if is_gone else PALETTE.text,
                ),
                (rate, PALETTE.dim),
            )
        )
    return lines[:height]
