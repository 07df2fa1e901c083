"""What a loss is, read from its autograd graph before backward: a sum over samples, and the number by which it was divided.

Every loss that is read is a sum of terms S / v: S adds up over the samples of the batch, v is known (samples, elements, tokens,
class weights, a constant, or 1). Over all ranks such a term is sum(S) / sum(v), whatever v is, so no kind of loss is guessed. A
node that is not known to treat every sample by itself makes the loss unknown.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch

_MAX_NODES = 4000
"""Nodes visited before a loss counts as unknown."""
_INTRINSIC = re.compile(
    r"(MseLoss|SmoothL1Loss|HuberLoss|SoftMarginLoss|BinaryCrossEntropy|BinaryCrossEntropyWithLogits|KlDiv)Backward\d$"
)
"""Losses of torch with a saved reduction whose mean is over the elements of their input."""
_NLL = re.compile(r"NllLoss(2D)?Backward\d$")
_LINEAR = re.compile(
    r"(Neg|View|UnsafeView|Reshape|ReshapeAlias|Squeeze|Alias|Clone|Copy|ToCopy|Detach|Contiguous|CopySlices|Identity)Backward\d$"
)
"""Of a scalar: pass it on unchanged, but for its sign and shape."""
_PER_ELEMENT = re.compile(
    r"(Neg|Abs|Exp|Expm1|Log|Log1P|Log2|Log10|Sqrt|Rsqrt|Pow|Sigmoid|LogSigmoid|Tanh|Relu|LeakyRelu|Elu|Gelu|Silu|Mish|Softplus|"
    r"Hardtanh|Clamp|ClampMin|ClampMax|Where|MaskedFill|Maximum|Minimum|Add|Sub|Rsub|Mul|Div|Addcmul|Addcdiv|Reciprocal|Sin|Cos|Erf|"
    r"Lerp|Sgn|Sign|Clone|ToCopy|Copy|Alias|Threshold|Hardsigmoid|Hardswish|NativeDropout|Round|Floor|Square|Lgamma|Digamma|Xlogy|"
    r"MseLoss|SmoothL1Loss|HuberLoss|SoftMarginLoss|BinaryCrossEntropy|BinaryCrossEntropyWithLogits|KlDiv|MaskedSelect)Backward\d$"
)
_PER_ROW = re.compile(
    r"(View|UnsafeView|Reshape|ReshapeAlias|Squeeze|Unsqueeze|Expand|Transpose|Permute|Select|Slice|Gather|Index|Sum|Mean|Amax|Amin|Max|"
    r"Min|Logsumexp|LogSoftmax|Softmax|NormBackward|LinalgVectorNorm|Norm|Cat|Stack|Unbind|Split|SplitWithSizes|Narrow|Bmm|Std|Var|Cumsum|"
    r"Flip|Roll|Pad|ConstantPadNd|AvgPool2D|AvgPool1D|AdaptiveAvgPool2D|AdaptiveAvgPool1D|MkldnnAdaptiveAvgPool2D|MaxPool2DWithIndices|"
    r"AdaptiveMaxPool2D|UpsampleNearest2D|UpsampleBilinear2D|CosineSimilarity|NllLoss|NllLoss2D)Backward\d$"
)
"""Treat each sample by itself as long as they leave the first dimension alone."""
_PARAMETRIC = re.compile(
    r"(Addmm|Convolution|MkldnnConvolution|CudnnConvolution|Embedding|NativeLayerNorm|NativeGroupNorm|NativeBatchNorm|CudnnBatchNorm|"
    r"MiopenBatchNorm|BatchNorm|FusedRmsNorm|Linear|MkldnnLinear|EmbeddingBag|CudnnRnn|ThnnFusedLstmCell|ThnnFusedGruCell|Prelu|PreluKernel)"
    r"Backward\d$"
)
"""Layers with weights: what lies below them is the network."""


_SINK = "_DDPSinkBackward"
"""Through which DDP passes outputs where it looks for unused parameters, each at its own place."""
_SUM_OF_TERMS = re.compile(r"(Add|Sub|Rsub)Backward\d$")
_SCALED = re.compile(r"(Mul|Div)Backward\d$")
_PRODUCT = re.compile(r"(Mm|Addmv|Mv|Matmul|Linear)Backward\d$")
_VIEW_OF_WEIGHT = re.compile(r"(T|Transpose|View|ToCopy|Permute|Unsqueeze|Expand)Backward\d$")


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


class _Unknown(Exception):
    pass


@dataclass(slots=True)
class _Reader:
    seen: int
    """Samples of the local batch."""
    is_end: Any
    """Whether a node is the output of the model as DDP returned it."""
    terms: list[Term] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    visited: int = 0
    is_divided: bool = False
    """Whether the path to the newest term has a factor or a divisor."""
    _known: dict[Any, bool] = field(default_factory=dict)

    def walk(self, edge: Edge, count: float | torch.Tensor, outer: Any) -> None:
        """Follow a scalar down to its terms; ``count``: the divisors met so far; ``outer``: the outermost node of this term."""
        self._visit()
        node = edge[0]
        if self.is_end(node):  # the model returns its loss
            return self.walk(_through_output(edge), count, outer or node)
        name = _name(node)
        if name == _SINK:
            return self.walk(_children(node)[edge[1]], count, outer or node)
        children = _children(node)
        if _is(_SUM_OF_TERMS, name):
            is_divided = self.is_divided
            for child in children:
                self.is_divided = is_divided
                self.walk(child, count, None)
            return None
        self.names.append(name)
        outer = outer or node
        if _is(_LINEAR, name) and len(children) == 1 and _size(children[0]) in (1, None):
            return self.walk(children[0], count, outer)
        if _is(_SCALED, name) and _size(edge) in (1, None):
            return self._scaled(node, name, children, count, outer)
        return self._reduced(edge, name, children, count, outer)

    def _scaled(self, node: Any, name: str, children: Sequence[Edge], count: float | torch.Tensor, outer: Any) -> None:
        if len(children) != 1 or (node.next_functions[0][0] is None and name.startswith("Div")):
            if not self._depends(node):
                return None
            raise _Unknown(name)
        if node.next_functions[0][0] is not None:
            factor = getattr(node, "_saved_other", None)
        else:
            factor = getattr(node, "_saved_self", None)
        if isinstance(factor, torch.Tensor) and factor.numel() != 1:
            raise _Unknown(name)
        value = _number(factor)
        self.is_divided = True
        if value is None:
            raise _Unknown(name)
        if name.startswith("Div"):
            return self.walk(children[0], count * value, outer)
        if not isinstance(value, torch.Tensor) and value == 0.0:
            return None
        return self.walk(children[0], count / value, outer)

    def _reduced(self, edge: Edge, name: str, children: Sequence[Edge], count: float | torch.Tensor, outer: Any) -> None:
        node = edge[0]
        if not self._depends(node):
            return  # a penalty on the weights: the mean over ranks leaves it as it is
        kind, own, is_shape = "sum", 1.0, False
        own_count: float | torch.Tensor = own
        if name == "MeanBackward0" or (name == "MeanBackward1" and _size(edge) == 1):
            kind, own_count, is_shape = "mean", float(prod(node._saved_self_sym_sizes)), True
        elif _is(_NLL, name) or _is(_INTRINSIC, name):
            reduction = int(node._saved_reduction)
            if reduction == 0:
                raise _Unknown("a loss per sample")
            if reduction == 1 and _is(_NLL, name):
                kind = "mean" if node._saved_weight is None else "weighted mean"
                own_count = _number(node._saved_total_weight) or 0.0
            elif reduction == 1:
                kind, own_count, is_shape = "mean", float(prod(_shape_of(node._saved_self))), True
        elif name != "SumBackward0" and not (name == "SumBackward1" and _size(edge) == 1):
            raise _Unknown(name)
        for child in children:
            self._per_sample(child)
        is_data = _is(_NLL, name) and kind != "sum"
        if kind == "sum" and self.is_divided:  # by 1 too: a batch of one sample is no other loss
            kind = "mean"
        total = own_count * count
        self.terms.append(Term(total, kind, outer, is_shape, is_data, _scores(node, name)))

    def _per_sample(self, top: Edge) -> None:
        """Raise _Unknown unless every sample below a reduction is treated by itself, down to the network's last layers."""
        stack = [top]
        passed: set[Edge] = set()
        while stack:
            edge = stack.pop()
            if edge in passed:
                continue
            passed.add(edge)
            self._visit()
            node = edge[0]
            if self.is_end(node):
                stack.append(_through_output(edge))
                continue
            name = _name(node)
            if name == _SINK:
                stack.append(_children(node)[edge[1]])
                continue
            if name == "AccumulateGrad" or _is(_PARAMETRIC, name):
                continue
            children = _children(node)
            if _is(_PRODUCT, name):
                self._check_product(edge, name, children)
                continue
            if _is(_PER_ELEMENT, name) or name.startswith("Expand"):
                self._check_shapes(edge, name, children)
            elif _is(_PER_ROW, name):
                self._check_rows(edge, name)
            else:
                raise _Unknown(name)
            stack += children

    def _check_product(self, edge: Edge, name: str, children: Sequence[Edge]) -> None:
        """A product of matrices keeps rows apart where its right factor is a weight, or a constant that is no other batch."""
        if any(_is_weight(child) for child in children):
            return
        out = _shape(edge)
        is_left = len(children) == 1 and edge[0].next_functions[0][0] is not None
        if not is_left or out is None or len(out) != 2 or not self.seen or out[1] % self.seen == 0:
            raise _Unknown(f"{name}: samples of a batch meet each other")

    def _check_shapes(self, edge: Edge, name: str, children: Sequence[Edge]) -> None:
        """Elementwise nodes may not spread samples over another dimension, as (n, 1) - (n,) does."""
        out = _shape(edge)
        if out is None or name.startswith("MaskedSelect"):
            return
        for child in children:
            inner = _shape(child)
            if inner is None or prod(inner) <= 1:
                continue
            if len(out) != len(inner) and not _is_weight(child):
                raise _Unknown(f"{name}: shapes {list(inner)} and {list(out)}")
            if len(out) == len(inner) and inner != out and out[0] != inner[0]:
                raise _Unknown(f"{name}: shapes {list(inner)} and {list(out)}")
            if len(out) == len(inner) > 1 and any(
                wide != narrow and wide == out[0] and wide > 1 for wide, narrow in zip(out[1:], inner[1:], strict=True)
            ):
                raise _Unknown(f"{name}: shapes {list(inner)} and {list(out)}")

    def _check_rows(self, edge: Edge, name: str) -> None:
        node = edge[0]
        dims: list[int] = []
        for attribute in ("_saved_dim", "_saved_dim0", "_saved_dim1", "_saved_dims"):
            value = getattr(node, attribute, None)
            if value is not None:
                dims += [_signed(one) for one in (value if isinstance(value, Sequence) else (value,))]
        if name.startswith("Permute"):
            if dims and dims[0] != 0:
                raise _Unknown(f"{name}: samples leave the first dimension")
            return None
        rank = len(_shape_below(node) or ())
        if name.startswith(("View", "UnsafeView", "Reshape", "NllLoss", "Bmm", "Squeeze")) and not (
            name.startswith("Squeeze") and 0 in dims
        ):
            return self._check_view(edge, name)
        if name.startswith("Index"):
            return _check_index(node, name)
        if (
            name.startswith(("Split", "Unbind", "Roll", "Flip", "Std", "Var", "Cumsum", "Cat", "Stack", "Slice", "Select"))
            and not dims
        ):
            raise _Unknown(name)
        if name.startswith(("Sum", "Mean", "Norm", "LinalgVectorNorm")) and not dims:
            raise _Unknown(name)
        if name.startswith("Slice") and 0 in dims:
            start, end = int(getattr(node, "_saved_start", 0) or 0), _signed(getattr(node, "_saved_end", 0))
            sizes = getattr(node, "_saved_self_sym_sizes", None)
            if start == 0 and sizes is not None and end >= sizes[0]:
                return None  # x[:, 1:] slices all rows as well
        if any(dim == 0 or (rank and dim % rank == 0) for dim in dims):
            raise _Unknown(f"{name}: samples of a batch meet each other")
        return None

    def _check_view(self, edge: Edge, name: str) -> None:
        """The first dimension of a view holds whole samples, one after another."""
        out = _shape(edge)
        if out and self.seen and out[0] % self.seen and prod(out) > 1 and out[0] != 1:
            inner = getattr(edge[0], "_saved_self_sym_sizes", None)
            if inner is None or not len(inner) or out[0] != inner[0]:
                raise _Unknown(f"{name}: samples leave the first dimension")

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
            if self.is_end(one) or _is(_PARAMETRIC, _name(one)):
                self._known[node] = True
                return True
            stack += [child for child, _ in one.next_functions if child is not None]
        self._known[node] = False
        return False

    def _visit(self) -> None:
        self.visited += 1
        if self.visited > _MAX_NODES:
            raise _Unknown("a graph of thousands of nodes")


def read_loss(loss: torch.Tensor, seen: int, is_end: Any) -> Reading:
    """Read a scalar loss. ``seen``: samples of the local batch; ``is_end(node)``: whether a node is an output of DDP's model."""
    if loss.grad_fn is None or loss.numel() != 1:
        return Reading(unknown="a loss of several values" if loss.numel() != 1 else "a loss without a graph")
    reader = _Reader(seen, is_end)
    try:
        reader.walk((loss.grad_fn, loss.output_nr), 1.0, None)
    except _Unknown as error:
        return Reading(unknown=str(error), signature=(*reader.names, "?"))
    except (AttributeError, TypeError, RuntimeError) as error:
        return Reading(unknown=f"{type(error).__name__}: {error}", signature=(*reader.names, "?"))
    return Reading(tuple(reader.terms), None, tuple(reader.names))


def reaches(roots: Sequence[torch.Tensor], is_end: Any) -> Iterator[Any]:
    """Yield the outputs of DDP models below some losses, each once, without entering these models."""
    stack = [root.grad_fn for root in roots if isinstance(root, torch.Tensor) and root.grad_fn is not None]
    passed: set[Any] = set()
    while stack:
        node = stack.pop()
        if node is None or node in passed:
            continue
        passed.add(node)
        if is_end(node):
            yield node
            continue
        stack += [child for child, _ in node.next_functions if child is not None]


Edge = tuple[Any, int]
"""A node, and which of its outputs."""


@functools.cache
def _is(kind: re.Pattern[str], name: str) -> bool:
    """Whether a name is of that kind; nodes have few names, so each is matched once."""
    return kind.match(name) is not None


def _name(node: Any) -> str:
    return str(node.name()).rpartition("::")[2]


def _children(node: Any) -> list[Edge]:
    return [edge for edge in node.next_functions if edge[0] is not None]


def _through_output(edge: Edge) -> Edge:
    """From an output of the model, as DDP returned it, to the same inside the model. Its first input is the slot's anchor."""
    inner: Edge = edge[0].next_functions[1 + edge[1]]
    if inner[0] is None:
        raise _Unknown("an output without a graph")
    return inner


def _shape(edge: Edge) -> tuple[int, ...] | None:
    """Shape of an output of a node."""
    try:
        return tuple(map(int, edge[0]._input_metadata[edge[1]].shape))
    except (AttributeError, IndexError, TypeError):
        return None


def _shape_below(node: Any) -> tuple[int, ...] | None:
    sizes = getattr(node, "_saved_self_sym_sizes", None)
    if sizes is not None:
        return tuple(map(int, sizes))
    children = _children(node)
    return _shape(children[0]) if children else None


def _size(edge: Edge) -> int | None:
    shape = _shape(edge)
    return None if shape is None else prod(shape)


def _shape_of(value: torch.Tensor) -> tuple[int, ...]:
    return tuple(value.shape)


def _signed(dim: Any) -> int:
    """Saved dimensions are unsigned: a negative one is just below 2^64."""
    number = int(dim)
    return number - (1 << 64) if number >= 1 << 63 else number


def _number(value: Any) -> float | torch.Tensor | None:
    """A saved number: as a float where reading it waits for no device."""
    if isinstance(value, torch.Tensor):
        if value.requires_grad:
            return None
        return float(value) if value.device.type == "cpu" else value.detach().to(torch.float64).reshape(())
    return None if value is None else float(value)


def _is_weight(edge: Edge) -> bool:
    """Whether an edge leads to a parameter, or a view of one."""
    for _ in range(4):
        name = _name(edge[0])
        if name == "AccumulateGrad":
            return True
        children = _children(edge[0])
        if len(children) != 1 or not _is(_VIEW_OF_WEIGHT, name):
            return False
        edge = children[0]
    return False


def _scores(node: Any, name: str) -> Any:
    """The node below ``nll_loss``, or below the sum over classes that torch's label smoothing masks alike."""
    if _is(_NLL, name):
        return _children(node)[0][0]
    path = [r"MaskedFill", r"Neg", r"Sum"]
    if name != "SumBackward0":
        return None
    for step in path:
        children = _children(node)
        if len(children) != 1 or not _name(children[0][0]).startswith(step):
            return None
        node = children[0][0]
    children = _children(node)
    return children[0][0] if len(children) == 1 else None


def _check_index(node: Any, name: str) -> None:
    """A mask, or one element of each row: ``x[mask]``, ``x[arange(n), y]``. Other rows may be chosen twice or paired."""
    indices = getattr(node, "_saved_indices", None) or ()
    first = next((index for index in indices if index is not None), None)
    if first is None or first.dtype in (torch.bool, torch.uint8):
        return
    if indices and indices[0] is None:
        return  # x[:, columns]
    rows = torch.arange(first.numel(), device=first.device)
    if len(indices) > 1 and first.dim() == 1 and bool(torch.equal(first, rows)):
        return
    raise _Unknown(f"{name}: samples of a batch meet each other")
