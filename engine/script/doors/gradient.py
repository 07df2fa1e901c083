"""The gradient door: DDP models carry the slot, and every backward is weighed. The library and unchanged scripts share it."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import optimizer as optimizers

from ..gradient.model import Wrapped
from ..session import ScriptSession
from .patches import Patches

_NAME = "_paceline"


def open_gradient_door(session: ScriptSession, patches: Patches) -> None:
    """Pass every backward of this process, and every forward of a model that carries the slot, through the session."""

    def backward(original: Any) -> Any:
        @functools.wraps(original)
        def weighed(
            tensors: Any,
            grad_tensors: Any = None,
            retain_graph: bool | None = None,
            create_graph: bool = False,
            grad_variables: Any = None,
            inputs: Any = None,
        ) -> None:
            if inputs is not None or grad_variables is not None or not session.models:
                original(tensors, grad_tensors, retain_graph, create_graph, grad_variables, inputs)
                return
            roots = [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)
            if grad_tensors is None:
                gradients: list[torch.Tensor | None] = [None] * len(roots)
            else:
                gradients = [grad_tensors] if isinstance(grad_tensors, torch.Tensor) else list(grad_tensors)
            session.backward(original, roots, gradients, retain_graph=retain_graph, create_graph=create_graph)

        return weighed

    def forward(original: Any) -> Any:
        @functools.wraps(original)
        def timed(self: DistributedDataParallel, *inputs: Any, **kwargs: Any) -> Any:
            wrapped: Wrapped | None = self.__dict__.get(_NAME)
            if wrapped is None:
                return original(self, *inputs, **kwargs)
            if not torch.is_grad_enabled():
                session.evaluated()
                return original(self, *inputs, **kwargs)
            session.begin_forward(wrapped, leading_sizes((inputs, kwargs)), pointers_of((inputs, kwargs)))
            output = wrapped.run(functools.partial(original, self), *inputs, **kwargs)
            session.end_forward()
            return output

        return timed

    def buffers(original: Any) -> Any:
        @functools.wraps(original)
        def timed(self: DistributedDataParallel) -> None:
            start = time.perf_counter()
            original(self)
            session.timer.shift(time.perf_counter() - start)  # a wait for rank 0, not work

        return timed

    def zero(original: Any) -> Any:
        @functools.wraps(original)
        def noted(self: Any, *args: Any, **kwargs: Any) -> None:
            original(self, *args, **kwargs)
            session.zeroed()

        return noted

    patches.replace(torch.autograd, "backward", backward)
    patches.replace(DistributedDataParallel, "_run_ddp_forward", forward)
    patches.replace(DistributedDataParallel, "_sync_buffers", buffers)
    patches.replace(torch.optim.Optimizer, "zero_grad", zero)
    patches.replace(nn.Module, "zero_grad", zero)
    handle = optimizers.register_optimizer_step_post_hook(lambda optimizer, *_: session.stepped(optimizer))
    patches.add(handle.remove)


def carry_slot(session: ScriptSession, ddp: DistributedDataParallel, model: nn.Module, construct: Any) -> Wrapped:
    """Construct ``ddp`` around ``model`` by ``construct()``, with a slot. Collective."""
    wrapped = Wrapped(construct, ddp, model, session.rank, session.world)
    ddp.__dict__[_NAME] = wrapped
    session.models.append(wrapped)
    return wrapped


def pointers_of(values: Any, depth: int = 0) -> frozenset[int]:
    """Return where the tensors in nested tuples, lists and dicts lie: most scripts pass them on as the loader gave them."""
    if isinstance(values, torch.Tensor):
        return frozenset((values.data_ptr(),)) if values.numel() and type(values) is torch.Tensor else frozenset()
    if depth > 4:
        return frozenset()
    if isinstance(values, Mapping):
        values = tuple(values.values())
    if isinstance(values, Sequence) and not isinstance(values, str | bytes) and len(values) <= 64:
        return frozenset().union(*(pointers_of(value, depth + 1) for value in values))
    return frozenset()


def leading_sizes(values: Any, depth: int = 0) -> frozenset[int]:
    """Return the first dimensions of all tensors in nested tuples, lists and dicts."""
    if isinstance(values, torch.Tensor):
        return frozenset(values.shape[:1])
    if depth > 4:
        return frozenset()
    if isinstance(values, Mapping):
        values = tuple(values.values())
    if isinstance(values, Sequence) and not isinstance(values, str | bytes):
        return frozenset().union(*(leading_sizes(value, depth + 1) for value in values))
    return frozenset()
