"""The number format that a run computes in: one for all ranks, because other rounding gives other gradients of the same samples.

Weights, gradients, their sum and the optimizer stay in float32. Without ``--precision`` it is bfloat16 where the workload asks for
it and every device has hardware for it, else float32. A format that a device lacks is refused, never replaced. float16 needs a loss
scale: its smallest number is 6e-8, its largest 65,504. The GTX 16xx (compute capability 7.5 without tensor cores) are slow in it
and give NaN (ultralytics#17977, apex#806).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..errors import PlanImpossible
from ..plan import RankPlan
from ..states import PRECISIONS, Precision
from .group.process_group import Group

_MIN_CAPABILITY: dict[Precision, int] = {"tf32": 8, "bf16": 8, "fp16": 7}
"""Least major compute capability with tensor cores for a format; older cards emulate it, if they can."""
_NO_TENSOR_CORES = ("GTX 16", "MX450", "MX550")
"""Cards of capability 7.5 without tensor cores, by a part of their names."""
AUTOCAST: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Formats that torch's autocast computes products in."""
FIRST_LOSS_SCALE, MAX_LOSS_SCALE = 2.0**12, 2.0**24
GROWTH_STEPS = 500
"""Steps without an overflow after which the loss scale doubles."""


def has_hardware(precision: Precision, kind: str, major: int, name: str = "") -> bool:
    """Whether a device computes faster in a format than in float32; no CPU and no emulated device counts."""
    if precision == "fp32":
        return True
    is_slow = precision == "fp16" and any(part in name for part in _NO_TENSOR_CORES)
    return kind == "cuda" and major >= _MIN_CAPABILITY[precision] and not is_slow


def can_compute(precision: Precision, kind: str, major: int, name: str = "") -> bool:
    """Whether a person may ask for a format on a device: a processor has bfloat16 and float16, but no tf32."""
    return (kind != "cuda" and precision != "tf32") or has_hardware(precision, kind, major, name)


def agree_precision(group: Group, ranks: Sequence[RankPlan], asked: Precision | None, *, prefers_bfloat16: bool) -> Precision:
    """Return the format of the run, alike on every rank. Collective, one exchange, unless float32 needs none.

    Raises PlanImpossible where a device lacks the format that was asked for; without one it decides by the hardware.
    """
    wanted: Precision = asked if asked is not None else "bf16" if prefers_bfloat16 else "fp32"
    if wanted == "fp32":
        return wanted
    device, name = group.device, ranks[group.rank].device_name
    major = torch.cuda.get_device_capability(device)[0] if device.type == "cuda" else 0
    test = has_hardware if asked is None else can_compute
    lacking = [rank for rank, row in enumerate(group.gather([float(test(wanted, device.type, major, name))])) if row[0] != 1.0]
    if not lacking:
        return wanted
    if asked is None:
        return "fp32"
    who = ", ".join(f"{ranks[rank].device_name} of {ranks[rank].node}" for rank in lacking)
    others = ", ".join(one for one in PRECISIONS if one != wanted)
    raise PlanImpossible(f"{who} cannot compute in {wanted}", hint=f"--precision {others}, or leave these devices out")


def set_precision(precision: Precision | None) -> None:
    """Allow or forbid TF32 in this process; None leaves torch's own choice, which is TF32 in convolutions only."""
    if precision is not None:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"


class LossScale:
    """The factor on the loss that keeps float16 gradients above zero and below infinity, alike on all ranks.

    It halves after a step that overflowed, which no optimizer takes, and doubles after many that did not (Micikevicius et al.
    2018). Every rank decides from the same reports. Other formats need no scale: theirs is 1 and stays.
    """

    def __init__(self, precision: Precision) -> None:
        self.is_used = precision == "fp16"
        """Whether a gradient may overflow by the format: then its step is skipped, as long as ``value`` is above 1."""
        self.value = FIRST_LOSS_SCALE if self.is_used else 1.0
        self._clean_steps = 0

    def update(self, *, is_skipped: bool) -> None:
        """Take a report into account."""
        if not self.is_used:
            return
        self._clean_steps = 0 if is_skipped else self._clean_steps + 1
        if is_skipped:
            self.value = max(1.0, self.value / 2)
        elif self._clean_steps >= GROWTH_STEPS:
            self._clean_steps, self.value = 0, min(MAX_LOSS_SCALE, self.value * 2)
