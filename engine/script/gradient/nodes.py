"""Reads single nodes of torch's autograd graph: names, children, shapes, saved numbers; nothing of what they mean."""

from __future__ import annotations

import functools
import re
from math import prod
from typing import Any

import torch

Edge = tuple[Any, int]
"""A node, and which of its outputs."""
VIEW_OF_WEIGHT = re.compile(r"(T|Transpose|View|ToCopy|Permute|Unsqueeze|Expand)Backward\d$")


class UnreadLoss(Exception):
    """A node that cannot be read; its text is the name, and why."""


@functools.cache
def is_kind(kind: re.Pattern[str], name: str) -> bool:
    """Whether a name is of that kind; nodes have few names, so each is matched once."""
    return kind.match(name) is not None


def name_of(node: Any) -> str:
    """Name of a node without its namespace, such as ``MeanBackward0``."""
    return str(node.name()).rpartition("::")[2]


def children_of(node: Any) -> list[Edge]:
    """Inputs of a node that need a gradient."""
    return [edge for edge in node.next_functions if edge[0] is not None]


def through_output(edge: Edge) -> Edge:
    """From an output of the model, as DDP returned it, to the same inside the model. Its first input is the slot's anchor."""
    inner: Edge = edge[0].next_functions[1 + edge[1]]
    if inner[0] is None:
        raise UnreadLoss("an output without a graph")
    return inner


def shape_of(edge: Edge) -> tuple[int, ...] | None:
    """Shape of an output of a node."""
    try:
        return tuple(map(int, edge[0]._input_metadata[edge[1]].shape))
    except (AttributeError, IndexError, TypeError):
        return None


def shape_below(node: Any) -> tuple[int, ...] | None:
    """Shape of a node's input."""
    sizes = getattr(node, "_saved_self_sym_sizes", None)
    if sizes is not None:
        return tuple(map(int, sizes))
    children = children_of(node)
    return shape_of(children[0]) if children else None


def size_of(edge: Edge) -> int | None:
    """Elements of an output of a node."""
    shape = shape_of(edge)
    return None if shape is None else prod(shape)


def signed(dim: Any) -> int:
    """Saved dimensions are unsigned: a negative one is just below 2^64."""
    number = int(dim)
    return number - (1 << 64) if number >= 1 << 63 else number


def number_of(value: Any) -> float | torch.Tensor | None:
    """A saved number: as a float where reading it waits for no device."""
    if isinstance(value, torch.Tensor):
        if value.requires_grad:
            return None
        return float(value) if value.device.type == "cpu" else value.detach().to(torch.float64).reshape(())
    return None if value is None else float(value)


def constant_of(node: Any) -> Any:
    """The constant factor or divisor of a product, quotient or ``addcmul`` with one input that needs a gradient."""
    if name_of(node).startswith("Addcmul"):
        return next((value for value in (node._saved_tensor1, node._saved_tensor2) if value is not None), None)
    is_first = node.next_functions[0][0] is not None
    return getattr(node, "_saved_other" if is_first else "_saved_self", None)


def is_weight(edge: Edge) -> bool:
    """Whether an edge leads to a parameter, or a view of one."""
    for _ in range(4):
        name = name_of(edge[0])
        if name == "AccumulateGrad":
            return True
        children = children_of(edge[0])
        if len(children) != 1 or not is_kind(VIEW_OF_WEIGHT, name):
            return False
        edge = children[0]
    return False
