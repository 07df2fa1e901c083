"""What a loss is, read from its autograd graph before backward: a sum over samples, and the number by which it was divided.

Every loss that is read is a sum of terms S / v: S adds up over the samples of the batch, v is known (samples, elements, tokens,
class weights, a constant, or 1). Over all ranks such a term is sum(S) / sum(v), whatever v is, so no kind of loss is guessed. A
node that is not known to treat every sample by itself makes the loss unknown.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch

from .nodes import Edge, UnreadLoss, children_of, constant_of, is_kind, name_of, number_of, size_of, through_output
from .samples import INTRINSIC, NLL, PARAMETRIC, SINK, SampleCheck, is_scalar

_MAX_NODES = 4000
"""Nodes visited before a loss counts as unknown."""
_LINEAR = re.compile(
    r"(Neg|View|UnsafeView|Reshape|ReshapeAlias|Squeeze|Unsqueeze|Expand|Alias|Clone|Copy|ToCopy|Detach|Contiguous|CopySlices|Identity)"
    r"Backward\d$"
)
"""Of a scalar: pass it on unchanged, but for its sign and shape."""
_SUM_OF_TERMS = re.compile(r"(Add|Sub|Rsub)Backward\d$")
_SCALED = re.compile(r"(Mul|Div)Backward\d$")
_TOTAL = re.compile(r"(Mean|Sum)Backward[01]$")
_PASSES_FACTOR_ON = re.compile(
    r"(Neg|View|UnsafeView|Reshape|ReshapeAlias|Squeeze|Unsqueeze|Alias|Clone|Copy|ToCopy|Sum|Mean|MaskedFill|MaskedSelect|Index|Mul|Div)"
    r"Backward\d$"
)
"""Directly below a reduction: a factor below them is one of the whole term."""
_KEEPS_SCALE = re.compile(r"(MseLoss|SmoothL1Loss|HuberLoss|Mean|Sum)Backward\d$")


@dataclass(frozen=True, slots=True)
class Term:
    """One term S / v of a loss."""

    count: float | torch.Tensor
    """v; a tensor where only the device knows it."""
    kind: str
    """``mean``, ``sum`` or ``weighted mean``."""
    node: Any
    """Its outermost node: the gradient that reaches it is the factor of the term."""
    is_shape: bool
    """Whether v comes from a shape, so that it grows with the samples of the batch."""
    is_data: bool = False
    """Whether v was counted in the data: valid tokens, class weights."""
    innermost: Any = None
    """Node of its sum or mean over the samples, or the last one below that is a factor of the whole term. Above it, the gradient of
    a batch without valid samples is 0 / 0."""
    scores: Any = None
    """Node of the log probabilities below a cross-entropy or its label smoothing: terms of the same have the same targets."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read of one loss."""

    terms: tuple[Term, ...] = ()
    """Those that depend on the batch."""
    unknown: str | None = None
    """The node that cannot be read; None: the loss is read."""
    signature: tuple[str, ...] = ()
    """Names of the nodes of its terms: the same code gives the same on every rank."""
    shared: float = 0.0
    """A number made of all constants that are not data of single samples: unlike on two ranks, they were computed from a batch."""

    @property
    def is_one_count(self) -> bool:
        """Whether one count weighs all terms: decided from the code of the loss alone, so that all ranks decide alike."""
        first = self.terms[0].scores if self.terms else None
        is_smoothed = first is not None and all(term.scores == first for term in self.terms)
        return len(self.terms) < 2 or is_smoothed or all(term.is_shape for term in self.terms)

    @property
    def kind(self) -> str | None:
        """What the loss is, for a person."""
        kinds = sorted({term.kind for term in self.terms})
        return None if self.unknown else " and ".join(kinds) or None


@dataclass(slots=True)
class _Reader:
    seen: int
    """Samples of the local batch."""
    is_end: Any
    """Whether a node is the output of the model as DDP returned it."""
    reads_values: bool
    terms: list[Term] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    visited: int = 0
    is_divided: bool = False
    """Whether the path to the newest term has a divisor that may be a count."""
    check: SampleCheck = field(init=False)
    _known: dict[Any, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.check = SampleCheck(self.seen, self.is_end, self._visit, reads_values=self.reads_values)

    def walk(self, edge: Edge, count: float | torch.Tensor, outer: Any) -> None:
        """Follow a scalar down to its terms; ``count``: the divisors met so far; ``outer``: the outermost node of this term."""
        self._visit()
        node = edge[0]
        if self.is_end(node):  # the model returns its loss
            return self.walk(through_output(edge), count, outer or node)
        name = name_of(node)
        if name == SINK:
            return self.walk(children_of(node)[edge[1]], count, outer or node)
        children = children_of(node)
        if is_kind(_SUM_OF_TERMS, name):
            is_divided = self.is_divided
            for child in children:
                self.is_divided = is_divided
                self.walk(child, count, None)
            return None
        self.names.append(name)
        outer = outer or node
        if is_kind(_LINEAR, name) and len(children) == 1 and size_of(children[0]) in (1, None):
            return self.walk(children[0], count, outer)
        if is_kind(_SCALED, name) and size_of(edge) in (1, None):
            if len(children) != 1 or (node.next_functions[0][0] is None and name.startswith("Div")):
                if not self._depends(node):
                    return None
                raise UnreadLoss(name)
            count = self._scaled(count, node, name)
            return None if count is None else self.walk(children[0], count, outer)
        if is_kind(_TOTAL, name) and size_of(children[0]) == 1:
            return self._of_one(edge, name, children, count, outer)
        return self._reduced(edge, name, children, count, outer)

    def _of_one(self, edge: Edge, name: str, children: Sequence[Edge], count: float | torch.Tensor, outer: Any) -> None:
        """A sum or mean of one element: of a scalar it is nothing, of a batch of one sample it is the reduction."""
        if self.seen == 1 and len(getattr(edge[0], "_saved_self_sym_sizes", ())) > 0:
            kept = len(self.terms), len(self.names), self.is_divided
            try:
                return self._reduced(edge, name, children, count, outer)
            except UnreadLoss:
                del self.terms[kept[0] :], self.names[kept[1] :]
                self.is_divided = kept[2]
        return self.walk(children[0], count, outer)

    def _scaled(self, count: float | torch.Tensor, node: Any, name: str) -> Any:
        """Return the count with a constant factor or divisor of the term; None where the factor is zero."""
        factor = constant_of(node)
        if isinstance(factor, torch.Tensor) and factor.numel() != 1:
            raise UnreadLoss(name)
        value = number_of(factor)
        if value is None:
            raise UnreadLoss(name)
        is_division = name.startswith("Div")
        if isinstance(value, torch.Tensor):
            self.is_divided = True
            return count * value if is_division else count / value
        if not is_division and value == 0.0:
            return None
        # 1 too may be a count: a batch of one sample is no other loss. A factor above 1 is none, as that of a gradient scaler.
        self.is_divided |= abs(value) >= 1.0 if is_division else abs(value) <= 1.0
        if self.reads_values and not (is_division and value == round(value)):  # whole divisors count the data of each rank
            self.check.shared.append(f"{value:.6g}")
        return count * value if is_division else count / value

    def _reduced(self, edge: Edge, name: str, children: Sequence[Edge], count: float | torch.Tensor, outer: Any) -> None:
        node = edge[0]
        if not self._depends(node):
            return  # a penalty on the weights: the mean over ranks leaves it as it is
        kind, own, is_shape = "sum", 1.0, False
        own_count: float | torch.Tensor = own
        is_total = name == "SumBackward0" or (name == "SumBackward1" and size_of(edge) == 1)
        if name == "MeanBackward0" or (name == "MeanBackward1" and size_of(edge) == 1):
            kind, own_count, is_shape, is_total = "mean", float(prod(node._saved_self_sym_sizes)), True, True
        elif is_kind(NLL, name) or is_kind(INTRINSIC, name):
            reduction = int(node._saved_reduction)
            if reduction == 0:
                raise UnreadLoss("a loss per sample")
            if reduction == 1 and is_kind(NLL, name):
                kind = "mean" if node._saved_weight is None else "weighted mean"
                own_count = number_of(node._saved_total_weight) or 0.0
            elif reduction == 1:
                kind, own_count, is_shape = "mean", float(prod(node._saved_self.shape)), True
        elif not is_total:
            raise UnreadLoss(name)
        innermost = node
        if is_total:
            folded = self._fold(children[0], count)
            if folded is None:
                return
            count, innermost = folded[0], folded[1] or node
        self.check.constants(edge, name, is_scaled=True)
        self.check.below(children, is_scaled=is_kind(_KEEPS_SCALE, name))
        is_data = (is_kind(NLL, name) and kind != "sum") or (is_shape and self.check.is_selected)
        is_shape = bool(is_shape and not is_data and (not self.seen or own_count % self.seen == 0))
        if kind == "sum" and self.is_divided:
            kind = "mean"
        self.terms.append(Term(own_count * count, kind, outer, is_shape, is_data, innermost, _scores(node, name)))

    def _fold(self, edge: Edge, count: float | torch.Tensor) -> Any:
        """Take the scalar factors directly below a sum or mean as factors of the term: ``(each / len(each)).sum()``.

        Returns the count and the node of the last factor; None where a factor is zero.
        """
        last = None
        while True:
            node = edge[0]
            name, children = name_of(node), children_of(node)
            if self.is_end(node) or len(children) != 1 or not is_kind(_PASSES_FACTOR_ON, name):
                return count, last
            if is_kind(_SCALED, name):
                is_inverse = node.next_functions[0][0] is None and name.startswith("Div")
                constant = constant_of(node)
                if is_inverse or (isinstance(constant, torch.Tensor) and constant.requires_grad):
                    return count, last
                if is_scalar(constant, self.seen):
                    count = self._scaled(count, node, name)
                    if count is None:
                        return None
                    self.check.folded.add(node)
                    last = node
            edge = children[0]

    def _depends(self, node: Any) -> bool:
        """Whether anything but weights lies below: the output of a model, or a tensor that the batch made."""
        if node in self._known:
            return self._known[node]
        stack, passed = [node], set()
        while stack:
            one = stack.pop()
            if one in passed:
                continue
            passed.add(one)
            self._visit()
            if self.is_end(one) or is_kind(PARAMETRIC, name_of(one)) or name_of(one) == "CompiledFunctionBackward":
                self._known[node] = True
                return True
            stack += [child for child, _ in one.next_functions if child is not None]
        self._known[node] = False
        return False

    def _visit(self) -> None:
        self.visited += 1
        if self.visited > _MAX_NODES:
            raise UnreadLoss("a graph of thousands of nodes")


def read_loss(loss: torch.Tensor, seen: int, is_end: Any, *, reads_values: bool = True) -> Reading:
    """Read a scalar loss. ``seen``: samples of the local batch; ``is_end(node)``: whether a node is an output of DDP's model.

    ``reads_values``: whether constants are examined, which costs time and may wait for a device.
    """
    if loss.grad_fn is None or loss.numel() != 1:
        return Reading(unknown="a loss of several values" if loss.numel() != 1 else "a loss without a graph")
    reader = _Reader(seen, is_end, reads_values)
    try:
        reader.walk((loss.grad_fn, loss.output_nr), 1.0, None)
    except UnreadLoss as error:
        return Reading(unknown=str(error), signature=(*reader.names, "?"))
    except (AttributeError, TypeError, RuntimeError) as error:
        return Reading(unknown=f"{type(error).__name__}: {error}", signature=(*reader.names, "?"))
    shared = float(zlib.crc32(" ".join(reader.check.shared).encode())) if reads_values else 0.0
    return Reading(tuple(reader.terms), None, tuple(reader.names), shared)


def _scores(node: Any, name: str) -> Any:
    """The node below ``nll_loss``, or below the sum over classes that torch's label smoothing masks alike."""
    if is_kind(NLL, name):
        return children_of(node)[0][0]
    path = [r"MaskedFill", r"Neg", r"Sum"]
    if name != "SumBackward0":
        return None
    for step in path:
        children = children_of(node)
        if len(children) != 1 or not name_of(children[0][0]).startswith(step):
            return None
        node = children[0][0]
    children = children_of(node)
    return children[0][0] if len(children) == 1 else None
