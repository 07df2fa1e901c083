"""The number format of a run: bfloat16 only where the workload asks for it and every device of the run has hardware for it.

All ranks use one format, because different rounding gives different gradients of the same samples. float16 is never used: it needs
loss scaling, whose skipped steps hide the non-finite values that we check for, and the cards with float16 but without bfloat16
include the GTX 16xx (compute capability 7.5 without tensor cores), where it is slow and gives NaN (ultralytics#17977, apex#806).
Weights, gradients, their sum and the optimizer stay in float32.
"""

from __future__ import annotations

import torch

from .group.process_group import Group

_BFLOAT16_MIN_CAPABILITY = 8
"""Least major compute capability (Ampere) with tensor cores for bfloat16; older cards emulate it."""


def supports_bfloat16(kind: str, major: int) -> bool:
    """Whether a device of that kind and major compute capability has hardware for bfloat16; no CPU and no emulated device has."""
    return kind == "cuda" and major >= _BFLOAT16_MIN_CAPABILITY


def agree_bfloat16(group: Group, *, is_wanted: bool) -> bool:
    """Return whether all ranks compute in bfloat16, alike on every rank. Collective, one exchange, where ``is_wanted``."""
    if not is_wanted:
        return False
    major = torch.cuda.get_device_capability(group.device)[0] if group.device.type == "cuda" else 0
    return all(row[0] == 1.0 for row in group.gather([float(supports_bfloat16(group.device.type, major))]))
