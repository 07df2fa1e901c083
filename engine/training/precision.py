"""In which number format a run computes: bfloat16 only where the model asks for it and every device of the run is good at it.

One format for all ranks, because unlike rounding would make unlike gradients of like samples. float16 is never used: it needs loss
scaling, whose skipped steps hide the very values that are not finite which we look for, and the cards that lack bfloat16 but have
float16 include the GTX 16xx (compute capability 7.5 without tensor cores), where it is slow and gives NaN (ultralytics#17977,
apex#806). Weights, gradients, their sum and the optimizer stay in float32.
"""

from __future__ import annotations

import torch

from .group import Group

_BFLOAT16_SINCE = 8
"""Major compute capability (Ampere) from which on bfloat16 is computed by tensor cores; older ones only emulate it."""


def can_bfloat16(kind: str, major: int) -> bool:
    """Whether a device of that kind and major compute capability is good at bfloat16. A CPU, emulating or not, is not."""
    return kind == "cuda" and major >= _BFLOAT16_SINCE


def agree(group: Group, *, is_wanted: bool) -> bool:
    """Whether all ranks compute in bfloat16; every rank gets the same answer. Costs one exchange, where it is wanted."""
    if not is_wanted:
        return False
    major = torch.cuda.get_device_capability(group.device)[0] if group.device.type == "cuda" else 0
    return all(row[0] == 1.0 for row in group.gather([float(can_bfloat16(group.device.type, major))]))
