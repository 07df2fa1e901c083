"""The advice as lines: verdict, candidates with bars, remedies, break-even points, devices that take part. Pure.

The advisor is pure and fast, so what-if questions are answered at once from the profile in the state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from textwrap import wrap
from typing import Any

from paceline.engine.advisor.advise import Advice, advise
from paceline.engine.advisor.predict import Prediction
from paceline.engine.advisor.profile_from_document import profile_from_document
from paceline.engine.advisor.whatif import link_of, with_link, without_devices
from paceline.engine.errors import PacelineError
from paceline.engine.profiles.profile import Profile
from paceline.engine.states import VerdictKind
from paceline.engine.workloads import WORKLOADS
from textual.strip import Strip

from ..terminal.format import UNKNOWN, count, number, pad, pad_left, percent, ratio, sanitize, size
from ..theme import GLYPHS, PALETTE
from .drawing.lines import NO_STYLE, Piece, bar, justified_line, line

ADVICE_WIDE_COLUMNS = 110
"""Width from which a row shows its secondary columns."""
SPEED_BAR_CELLS = (14, 40)
"""Least and largest width of the bar of a candidate's throughput."""
ADVICE_ROW_CELLS = 118
"""Width of a whole row with the shortest bar."""
DEFAULT_GLOBAL_BATCH_SIZE = 256
"""Global batch size assumed for a workload that this installation does not know."""
AGE_STEP_S = 3600.0
"""Seconds in which the age of a profile is counted: the advice is computed again after each."""
R_BOUNDS = (1.0, 10.0)
"""Values of R between which the network matters: below, a group mostly waits for it; above, it hardly does."""
_R_VERDICTS = (
    "below 1: a group mostly waits for its network",
    "below 10: the network matters",
    "10 or more: the network hardly matters",
)
MAX_WHAT_IF_BATCH_SIZE = 1 << 20
"""Largest global batch size that a what-if question reaches, in samples."""


@dataclass(frozen=True, slots=True)
class WhatIfChoice:
    """What the person supposes."""

    without: frozenset[int] = frozenset()
    """Indices of devices in the profile that are left out."""
    network: float = 1.0
    """Speed of the network, as a multiple of the measured one."""
    batch: float = 1.0
    """Global batch size, as a multiple of the workload's own."""


@dataclass(frozen=True, slots=True)
class AdviceView:
    """Everything the screen draws."""

    profile: Profile
    """The measured profile, with all devices."""
    what_if: WhatIfChoice
    is_emulated: bool
    assumed_profile: Profile | None = None
    """The profile changed by the what-if choice, which the advice is about."""
    advice: Advice | None = None
    reason: str = ""
    """Why there is no advice."""


def advice_view(document: dict[str, Any] | None, what_if: WhatIfChoice, now: float | None = None) -> AdviceView | None:
    """The advice for a profile document; None: there is no profile. ``now``: Unix time, for the doubt about an old profile."""
    profile = profile_from_document(document)
    hour = None if now is None else now // AGE_STEP_S * AGE_STEP_S
    return None if profile is None else _cached_view(_ProfileKey(profile), what_if, hour)


class _ProfileKey:
    """A hashable profile: profiles hold dictionaries, and every frame asks for the same advice."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self._words = repr(profile)

    def __hash__(self) -> int:
        return hash(self._words)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ProfileKey) and self._words == other._words


@lru_cache(maxsize=32)
def _cached_view(frozen: _ProfileKey, what_if: WhatIfChoice, now: float | None) -> AdviceView:
    profile = frozen.profile
    view = AdviceView(profile, what_if, any(device.kind == "emulated" for device in profile.devices))
    workload = WORKLOADS.get(profile.workload)
    batch = int((workload.global_batch_size if workload is not None else DEFAULT_GLOBAL_BATCH_SIZE) * what_if.batch)
    try:
        under = without_devices(profile, what_if.without) if what_if.without else profile
        if what_if.network != 1.0 and (link := link_of(under)) is not None:
            under = with_link(under, link[1] * what_if.network, link[0] / what_if.network)
        return replace(view, assumed_profile=under, advice=advise(under, min(max(1, batch), MAX_WHAT_IF_BATCH_SIZE), now=now))
    except (PacelineError, ArithmeticError) as error:
        return replace(view, reason=str(error))


def listed_candidates(view: AdviceView | None) -> list[Prediction]:
    """The candidates at the assumed batch size, fastest first."""
    if view is None or view.advice is None:
        return []
    batch = view.advice.recommended.candidate.global_batch_size
    return [prediction for prediction in view.advice.candidates if prediction.candidate.global_batch_size == batch]


_VERDICT_LOOKS: dict[VerdictKind, tuple[str, str]] = {
    "pays": ("PAYS", "ok"),
    "does not pay": ("DOES NOT PAY", "warning"),
    "no difference": ("NO DIFFERENCE", "text"),
    "one device": ("ONE DEVICE", "text"),
    "unknown": ("UNKNOWN", "warning"),
}
"""Headline of a verdict, and its style in the palette."""


def verdict_lines(view: AdviceView | None, workloads: int, width: int, height: int) -> list[Strip]:
    """Whether distributing pays in a few capitals, the sentence of the verdict, and the what-if choice."""
    if view is None:
        return [line(width, ("no profile yet: press : and type  advise  or  profile", PALETTE.dim))]
    network = ", network too" if view.profile.is_network_emulated else ""
    about = sanitize(view.profile.workload) + (f", emulated{network}" if view.is_emulated else "")
    end: list[Piece] = [(f"← → {count(workloads, 'workload')}" if workloads > 1 else "", PALETTE.dim)]
    if view.advice is None:
        lines = [justified_line(width, [("NO ADVICE", PALETTE.warning), (f"  {about}", PALETTE.dim)], end)]
        return [*lines, line(width, (sanitize(view.reason), PALETTE.warning)), _what_if_line(view, width)][:height]
    advice = view.advice
    speedup = advice.speedup_at_batch(advice.headline)
    word, style = _VERDICT_LOOKS[advice.verdict_kind]
    head: list[Piece] = [
        (f"{GLYPHS['ok' if advice.verdict_kind == 'pays' else 'warning']} {word}  {ratio(speedup)}", getattr(PALETTE, style)),
        (f" ± {percent(advice.doubt(advice.headline).fraction)}", PALETTE.text),
        (f"  {about}", PALETTE.dim),
    ]
    lines = [justified_line(width, head, end)]
    lines += [line(width, (text, PALETTE.text)) for text in _wrapped(advice.verdict, width, height - 2)]
    return [*lines, _what_if_line(view, width)][:height]


def _wrapped(text: str, width: int, most: int) -> list[str]:
    return wrap(sanitize(text, 600), max(20, width), max_lines=max(1, most), placeholder=" …")


def _what_if_line(view: AdviceView, width: int) -> Strip:
    what_if = view.what_if
    profile = view.profile
    excluded = [f"{sanitize(profile.devices[index].node)}:{profile.devices[index].index}" for index in sorted(what_if.without)]
    parts = [f"without {', '.join(excluded)}"] if excluded else []
    parts += [f"network {what_if.network:g}x as fast"] if what_if.network != 1 else []
    parts += [f"batch {what_if.batch:g}x"] if what_if.batch != 1 else []
    text, style = (f"what if: {'; '.join(parts)}", PALETTE.accent) if parts else ("as measured", PALETTE.dim)
    return line(width, (text, style))


def _bar_cells(width: int) -> int:
    return min(SPEED_BAR_CELLS[1], SPEED_BAR_CELLS[0] + max(0, width - ADVICE_ROW_CELLS))


def candidate_heading(width: int) -> Strip:
    """Column headings."""
    text = f"  {pad('devices', 24)}{pad('shares', 10)}{pad('samples/s', _bar_cells(width) + 9)}{pad_left('speed-up', 9)}"
    wide = f"{pad_left('efficiency', 12)}{pad_left('exchange', 11)}{pad_left('R', 8)}   local batches"
    return line(width, (text + (wide if width >= ADVICE_WIDE_COLUMNS else ""), PALETTE.dim))


def candidate_row(view: AdviceView | None, key: str, width: int, is_under_cursor: bool) -> Strip:
    """One candidate."""
    background = PALETTE.cursor if is_under_cursor else NO_STYLE
    candidates = listed_candidates(view)
    if view is None or view.advice is None or view.assumed_profile is None or not key.isdecimal() or int(key) >= len(candidates):
        return Strip.blank(width, NO_STYLE)
    advice, prediction = view.advice, candidates[int(key)]
    devices = [view.assumed_profile.devices[index] for index in prediction.candidate.devices]
    device_names = ",".join(sanitize(device.node) + (f":{device.index}" if device.index else "") for device in devices)
    is_best = prediction == advice.recommended
    speedup = advice.speedup_at_batch(prediction)
    pieces: list[Piece] = [
        (f"{GLYPHS['ok'] if is_best else ' '} ", PALETTE.ok),
        (pad(device_names, 23) + " ", PALETTE.strong if is_best else PALETTE.text),
        (pad("balanced" if prediction.candidate.is_balanced else "equal", 10), PALETTE.text),
        (bar(prediction.samples_per_second / candidates[0].samples_per_second, _bar_cells(width)), PALETTE.bar),
        (pad_left(number(prediction.samples_per_second), 9), PALETTE.text),
        (pad_left(ratio(speedup), 9), PALETTE.ok if speedup > 1.05 else PALETTE.warning if speedup < 0.95 else PALETTE.text),
    ]
    if width >= ADVICE_WIDE_COLUMNS:
        compared = UNKNOWN if prediction.ratio is None else f"{prediction.ratio:.2f}"
        pieces.append(
            (
                pad_left(percent(advice.efficiency(prediction)), 12) + pad_left(f"{prediction.exposed_seconds * 1000:,.1f} ms", 11),
                PALETTE.text,
            )
        )
        pieces.append((pad_left(compared, 8) + "   " + "/".join(map(str, prediction.local_batch_sizes)), PALETTE.dim))
    return line(width, *pieces, background=background)


CANDIDATE_COLUMNS = (
    *("devices", "is_balanced", "global_batch_size", "samples_per_second", "speedup", "efficiency", "exchange_seconds", "r"),
    *("local_batch_sizes", "is_recommended"),
)


def candidate_table(view: AdviceView | None) -> list[Sequence[object]]:
    """The candidates as data: a heading, then one row each, fastest first; None: unknown."""
    if view is None or view.advice is None or view.assumed_profile is None:
        return []
    rows: list[Sequence[object]] = [CANDIDATE_COLUMNS]
    for one in listed_candidates(view):
        devices = [view.assumed_profile.devices[index] for index in one.candidate.devices]
        names = " ".join(f"{device.node}:{device.index}" for device in devices)
        advice, candidate = view.advice, one.candidate
        start: list[object] = [names, candidate.is_balanced, candidate.global_batch_size, one.samples_per_second]
        figures: list[object] = [advice.speedup_at_batch(one), advice.efficiency(one), one.exposed_seconds, one.ratio]
        rows.append([*start, *figures, "/".join(map(str, one.local_batch_sizes)), one == advice.recommended])
    return rows


def remedy_lines(view: AdviceView | None, width: int, height: int) -> list[Strip]:
    """The break-even points, the serial part of a step, and the remedies, best first."""
    if view is None or view.advice is None:
        return []
    advice = view.advice
    batch, bandwidth = advice.break_even_batch, advice.break_even_bandwidth
    bandwidth_text = UNKNOWN if bandwidth is None else "any speed" if bandwidth == 0 else f"{size(int(bandwidth))}/s"
    serial = f"{percent(advice.serial_part)} of a step does not speed up with devices"
    break_even = f"1.1x with a batch of {number(batch)} or more, or with links of {bandwidth_text}; {serial}"
    lines = [line(width, (pad("pays from", 10), PALETTE.dim), (break_even, PALETTE.text))]
    if (compared := advice.headline.ratio) is not None:
        meaning = "time of computing / time of exchanging gradients; " + _R_VERDICTS[sum(compared >= bound for bound in R_BOUNDS)]
        lines.append(line(width, (pad("R", 10), PALETTE.dim), (f"{compared:.2f}  ", PALETTE.text), (meaning, PALETTE.dim)))
    for cause in advice.causes:
        wrapped = wrap(sanitize(cause, 400), max(20, width - 10))
        for row, text in enumerate(wrapped):
            lines.append(line(width, (pad("" if row else "because", 10), PALETTE.dim), (text, PALETTE.warning)))
    best_speedup = max((remedy.speedup for remedy in advice.remedies), default=1.0)
    bar_cells = 9 if width >= ADVICE_WIDE_COLUMNS else 6
    options_width = max((len(remedy.options) for remedy in advice.remedies), default=0)
    room = min(max((len(remedy.name) for remedy in advice.remedies), default=0) + 3, width - bar_cells - options_width - 10)
    for remedy in advice.remedies:
        text = f" {ratio(remedy.speedup):>6}  {pad(sanitize(remedy.name), room)}"
        drawn = (bar(remedy.speedup / best_speedup, bar_cells) + " ", PALETTE.bar)
        cost = f"  {sanitize(remedy.cost, 200)}" if width >= ADVICE_WIDE_COLUMNS else ""
        options = pad(sanitize(remedy.options), options_width) if cost else sanitize(remedy.options)
        lines.append(
            line(width, drawn, (text, PALETTE.text), (options, PALETTE.text if cost else PALETTE.dim), (cost, PALETTE.dim))
        )
    if len(lines) > height:
        lines = [*lines[: max(0, height - 1)], line(width, (f"+{len(lines) - height + 1} lines out of sight", PALETTE.dim))]
    return lines


def participant_lines(view: AdviceView | None, width: int, height: int) -> list[Strip]:
    """The devices of the profile with the keys that exclude and include them."""
    if view is None:
        return []
    lines = []
    for index, device in enumerate(view.profile.devices):
        is_excluded = index in view.what_if.without
        key = f"F{index + 2}" if index < 8 else "  "
        rate = (
            number(device.samples_per_second) + " samples/s"
            if device.samples_per_second
            else sanitize(device.error or "was not timed")
        )
        sign = GLYPHS["failed" if is_excluded else "ok"]
        lines.append(
            line(
                width,
                (f"{key:<4}", PALETTE.accent),
                (f"{sign} ", PALETTE.dim if is_excluded else PALETTE.ok),
                (
                    pad(f"{sanitize(device.node)}:{device.index} {sanitize(device.name)}", 30) + " ",
                    PALETTE.dim if is_excluded else PALETTE.text,
                ),
                (rate, PALETTE.dim),
            )
        )
    if len(lines) > height > 0:
        lines = [*lines[: height - 1], line(width, (f"+{count(len(lines) - height + 1, 'device')} hidden", PALETTE.dim))]
    return lines[:height]
