"""A model under DDP whose last gradient bucket carries the slot. Outputs, parameters and state of the model stay as they are.

The slot's autograd node is created before forward, so the engine runs it last of all; it enters backward as a root of its own.
Where DDP looks for unused parameters it has to find the slot below the outputs, so there they pass through one more node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.utils import _pytree as pytree

from .slot import Slot

_MAX_COPIED = 1 << 20
"""Elements up to which an output is copied, so that a script may change it in place; larger ones become views."""


class Wrapped:
    """One DDP model of the script, and what this step knows about it."""

    def __init__(
        self, construct: Callable[[], None], ddp: DistributedDataParallel, model: nn.Module, rank: int, world: int
    ) -> None:
        """Construct ``ddp`` around ``model`` by ``construct()``, with the slot hidden inside meanwhile. Collective."""
        self.ddp, self.model = ddp, model
        self.slot = Slot(model, rank, world)
        self.parameters = [weight for weight in model.parameters() if weight.requires_grad]
        self._known = {id(weight) for weight in self.parameters}
        self.has_batch_norm = any(isinstance(layer, _BatchNorm) for layer in model.modules())
        self.anchors: list[torch.Tensor] = []
        """Roots of the slot, one for each synchronised forward since the last backward."""
        self.forwards = 0
        """Forwards with gradients since the last backward."""
        self.fill: Callable[[], torch.Tensor] = self.slot.zeros
        """Called for the slot's gradient, when all other gradients of this rank are computed."""
        with self.slot.hidden_in(model):
            construct()

    def run(self, forward: Callable[..., Any], *inputs: Any, **kwargs: Any) -> Any:
        """Run DDP's inner forward; where gradients will be exchanged, the slot joins."""
        if not torch.is_grad_enabled():
            return forward(*inputs, **kwargs)
        if not self.forwards:
            self.anchors = []
        self.forwards += 1
        if not self.ddp.require_backward_grad_sync:
            return forward(*inputs, **kwargs)
        anchor: torch.Tensor = _Anchor.apply(self.slot.parameter, self, not self.anchors)  # type: ignore[no-untyped-call]  # torch does not annotate apply
        self.anchors.append(anchor)
        output = forward(*inputs, **kwargs)
        return _attach(output, anchor) if self.ddp.find_unused_parameters else output

    @property
    def is_attached(self) -> bool:
        """Whether the slot is reached through the outputs, and needs no root of its own."""
        return bool(self.ddp.find_unused_parameters)

    def is_below(self, roots: list[torch.Tensor]) -> bool:
        """Whether a backward from these roots computes gradients of this model."""
        stack: list[tuple[Any, int]] = [(root.grad_fn, 0) for root in roots if root.grad_fn is not None]
        passed: set[Any] = set()
        while stack:
            node = stack.pop()[0]
            if node in passed:
                continue
            passed.add(node)
            weight = getattr(node, "variable", None)
            if weight is not None:
                if id(weight) in self._known:
                    return True
                continue
            # Last pushed, first visited: a layer's own weights come before what lies below it.
            stack += sorted((edge for edge in node.next_functions if edge[0] is not None), key=_is_leaf)
        return False

    def take_slot(self) -> torch.Tensor | None:
        """Return the slot's gradient, and leave none behind; the step is over."""
        gradient, self.slot.parameter.grad = self.slot.parameter.grad, None
        self.anchors, self.forwards = [], 0
        return gradient

    def forget(self) -> None:
        """Forget the forwards of a step that is done again."""
        self.anchors, self.forwards, self.slot.parameter.grad = [], 0, None

    def gradients(self) -> list[torch.Tensor]:
        """Return the gradients of the model."""
        return [weight.grad for weight in self.parameters if weight.grad is not None]

    def has_no_gradient(self) -> bool:
        """Whether no parameter holds a gradient of an earlier backward."""
        return all(weight.grad is None for weight in self.parameters)


class _Anchor(torch.autograd.Function):
    """Returns zero; its gradient is the slot's, asked for after all other gradients are computed."""

    @staticmethod
    def forward(ctx: Any, slot: torch.Tensor, wrapped: Wrapped, is_first: bool) -> torch.Tensor:
        ctx.wrapped, ctx.is_first = wrapped, is_first
        return slot.new_zeros(())

    @staticmethod
    def backward(ctx: Any, _: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        # Of several forwards the first one's node runs last.
        return (ctx.wrapped.fill() if ctx.is_first else ctx.wrapped.slot.zeros()), None, None


class _Attach(torch.autograd.Function):
    """Passes outputs on, and makes the anchor one of their inputs."""

    @staticmethod
    def forward(ctx: Any, anchor: torch.Tensor, *outputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.is_paceline_output = True
        ctx.save_for_backward(anchor)
        return tuple(output.clone() if output.numel() <= _MAX_COPIED else output.view_as(output) for output in outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        (anchor,) = ctx.saved_tensors
        return (torch.zeros_like(anchor), *gradients)


def is_output(node: Any) -> bool:
    """Whether an autograd node is an output of a model as DDP returned it."""
    return getattr(node, "is_paceline_output", False)


def _attach(output: Any, anchor: torch.Tensor) -> Any:
    """Return the same output with the anchor below every tensor of it that has a gradient."""
    leaves, spec = pytree.tree_flatten(output)
    places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor) and leaf.requires_grad]
    if not places:
        return output
    attached = _Attach.apply(anchor, *(leaves[place] for place in places))  # type: ignore[no-untyped-call]  # torch does not annotate apply
    for place, tensor in zip(places, attached, strict=True):
        leaves[place] = tensor
    return pytree.tree_unflatten(leaves, spec)


def _is_leaf(edge: tuple[Any, int]) -> bool:
    return getattr(edge[0], "variable", None) is not None


def sparse_layers(model: nn.Module) -> Iterator[str]:
    """Names of layers with sparse gradients."""
    for name, layer in model.named_modules():
        if isinstance(layer, (nn.Embedding, nn.EmbeddingBag)) and layer.sparse:
            yield name or type(layer).__name__
