"""The slot: numbers of all ranks that travel inside the last gradient bucket, in a parameter that nobody sees.

A bucket may be half precision, divided by the number of ranks, or compressed by a hook of the script. So each number travels as
the 64 bits of its double, seven bits an element: 0 to 127 survive all of these exactly. One rank writes a row, the others zeros, so
the sum is the row itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

VALUES = ("seconds", "samples", "data", "copy", "host", "wait", "fingerprint", "code", "shares", "wants", "shared", "count", "loss")
"""A row. The last two may be known to the device only."""
_DIGITS = 10
_SHIFTS = tuple(7 * digit for digit in range(_DIGITS))
_HIDDEN = "_paceline_slot"


class Slot:
    """The hidden parameter of one model and the rows in it."""

    def __init__(self, model: nn.Module, rank: int, world: int) -> None:
        """``model``: at least one of its parameters needs a gradient; the slot takes its type and device."""
        weight = next(weight for weight in model.parameters() if weight.requires_grad)
        self.rank, self.world = rank, world
        size = world * len(VALUES) * _DIGITS
        self.parameter = nn.Parameter(torch.zeros(size, dtype=weight.dtype, device=weight.device))
        self._row = torch.zeros(size, dtype=weight.dtype, device=weight.device)
        self._shifts = torch.tensor(_SHIFTS, dtype=torch.int64, device=weight.device)

    @contextmanager
    def hidden_in(self, model: nn.Module) -> Iterator[None]:
        """Have DDP, constructed meanwhile, see the slot as the first parameter of ``model``: it lands in the last bucket."""
        names = dict(model._parameters)
        model._parameters.clear()
        model._parameters[_HIDDEN] = self.parameter
        model._parameters.update(names)
        try:
            yield
        finally:
            model._parameters.pop(_HIDDEN, None)

    def fill(self, values: Sequence[float], count: float | torch.Tensor, loss: torch.Tensor | None) -> torch.Tensor:
        """Return the slot's gradient: this rank's row, zeros elsewhere. On a GPU without waiting for it."""
        own = self._row.view(self.world, -1)[self.rank]
        if self._row.is_cuda or isinstance(count, torch.Tensor):
            host = digits_of(np.array([*values, *([] if isinstance(count, torch.Tensor) else [count])], dtype=np.float64))
            parts = [torch.from_numpy(host).to(self._row.device, self._row.dtype, non_blocking=True)]
            device = [count] if isinstance(count, torch.Tensor) else []
            device.append(torch.zeros((), device=self._row.device) if loss is None else loss)
            parts += [self._digits(value) for value in device]
            torch.cat(parts, out=own)
        else:
            row = np.array((*values, count, 0.0 if loss is None else float(loss)), dtype=np.float64)
            own.copy_(torch.from_numpy(digits_of(row)))
        return self._row

    def zeros(self) -> torch.Tensor:
        """Return a gradient that says nothing."""
        return torch.zeros_like(self._row)

    def _digits(self, value: torch.Tensor) -> torch.Tensor:
        bits = value.detach().to(torch.float64).reshape(1).view(torch.int64)
        return ((bits >> self._shifts) & 127).to(self._row.dtype)

    def counts(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return the counts of all ranks, float64, on the device, of the slot's gradient after DDP's mean."""
        rows = (gradient * self.world).round().view(self.world, len(VALUES), _DIGITS)[:, VALUES.index("count")]
        return (rows.to(torch.int64) << self._shifts).sum(1).view(torch.float64)

    def rows(self, gradient: torch.Tensor) -> npt.NDArray[np.float64] | None:
        """Return the rows of all ranks; None where a digit is none, because the bucket was changed on its way."""
        raw: Any = gradient.detach().to(torch.float64).mul(self.world).cpu().numpy()
        rounded = np.rint(raw)
        if not (np.abs(raw - rounded) <= 0.45).all():  # nor where it is not finite
            return None
        digits = rounded.astype(np.int64)
        if (digits & ~127).any():
            return None
        bits = (digits.astype(np.uint64).reshape(self.world, len(VALUES), _DIGITS) << _NUMPY_SHIFTS).sum(2, dtype=np.uint64)
        return np.ascontiguousarray(bits).view(np.float64)


_NUMPY_SHIFTS = np.array(_SHIFTS, dtype=np.uint64)


def digits_of(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the digits of some doubles, one after another."""
    bits = values.view(np.uint64)[:, None] >> _NUMPY_SHIFTS
    return (bits & np.uint64(127)).astype(np.float64).reshape(-1)
