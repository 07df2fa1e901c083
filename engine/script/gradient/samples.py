"""Whether a loss treats every sample by itself, from its reduction down to the last layers of the network.

A node that is not known to keep samples apart makes the loss unknown. So does a constant that the script computed from the whole
local batch: a divisor that counts samples in the middle of the loss, weights that sum to 1 over the batch, centred advantages. Of
the constants that are left, those that are no data of single samples have to be alike on all ranks (``shared``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch

from .nodes import (
    Edge,
    UnreadLoss,
    children_of,
    constant_of,
    is_kind,
    is_weight,
    name_of,
    shape_below,
    shape_of,
    signed,
    through_output,
)

INTRINSIC = re.compile(
    r"(MseLoss|SmoothL1Loss|HuberLoss|SoftMarginLoss|BinaryCrossEntropy|BinaryCrossEntropyWithLogits|KlDiv)Backward\d$"
)
"""Losses of torch with a saved reduction whose mean is over the elements of their input."""
NLL = re.compile(r"NllLoss(2D)?Backward\d$")
PRODUCT_WITH_CONSTANT = re.compile(r"(Mul|Div|Addcmul)Backward\d$")
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
PARAMETRIC = re.compile(
    r"(Addmm|Convolution|MkldnnConvolution|CudnnConvolution|Embedding|NativeLayerNorm|NativeGroupNorm|NativeBatchNorm|CudnnBatchNorm|"
    r"MiopenBatchNorm|BatchNorm|FusedRmsNorm|Linear|MkldnnLinear|EmbeddingBag|CudnnRnn|ThnnFusedLstmCell|ThnnFusedGruCell|Prelu|PreluKernel)"
    r"Backward\d$"
)
"""Layers with weights: what lies below them is the network."""
SINK = "_DDPSinkBackward"
"""Through which DDP passes outputs where it looks for unused parameters, each at its own place."""
_PRODUCT = re.compile(r"(Mm|Addmv|Mv|Matmul|Linear)Backward\d$")
_COMPILED = re.compile(r"CompiledFunctionBackward$")
_KEEPS_SCALE = re.compile(
    r"(Neg|Mul|Div|Add|Sub|Rsub|Addcmul|View|UnsafeView|Reshape|ReshapeAlias|Squeeze|Unsqueeze|Expand|Transpose|Permute|Select|Slice|"
    r"Gather|Index|Sum|Mean|MaskedFill|MaskedSelect|Where|Clone|ToCopy|Copy|Alias|Abs|Relu|LeakyRelu|Pow|Sqrt|Square|Norm|Amax|Amin|Max|"
    r"Min|LinalgVectorNorm|Maximum|Minimum|Clamp|ClampMin|ClampMax|MseLoss|SmoothL1Loss|HuberLoss|NllLoss|NllLoss2D)Backward\d$"
)
"""A factor below them scales what comes out, so that a count of samples there is a divisor of the loss."""
_MAX_SHARED = 1 << 16
"""Elements of a shared constant up to which it is compared."""
_TOLERANCE = 1e-5


class SampleCheck:
    """Checks one loss, reduction after reduction."""

    def __init__(self, seen: int, is_end: Callable[[Any], bool], visit: Callable[[], None], *, reads_values: bool) -> None:
        """``seen``: samples of the local batch; ``reads_values``: whether constants are looked at, which may wait for a device."""
        self.seen, self.is_end, self.visit, self.reads_values = seen, is_end, visit, reads_values
        self.shared: list[str] = []
        """Constants that have to be alike on all ranks, as text."""
        self.is_selected = False
        """Whether the newest reduction is over elements that a mask has chosen."""
        self.folded: set[Any] = set()
        """Nodes whose factor counts as one of the whole term."""

    def below(self, tops: Sequence[Edge], *, is_scaled: bool) -> None:
        """Raise UnreadLoss unless every sample below a reduction is treated by itself, down to the network's last layers."""
        self.is_selected = False
        stack = [(top, is_scaled) for top in tops]
        passed: set[tuple[Edge, bool]] = set()
        while stack:
            edge, is_scaled = stack.pop()
            if (edge, is_scaled) in passed:
                continue
            passed.add((edge, is_scaled))
            self.visit()
            node = edge[0]
            if self.is_end(node):
                stack.append((through_output(edge), is_scaled))
                continue
            name = name_of(node)
            if name == SINK:
                stack.append((children_of(node)[edge[1]], is_scaled))
                continue
            if name == "AccumulateGrad" or is_kind(PARAMETRIC, name) or self._is_compiled(edge, name):
                continue
            children = children_of(node)
            if is_kind(_PRODUCT, name):
                self._check_product(edge, name, children)
                continue
            if is_kind(_PER_ELEMENT, name) or name.startswith("Expand"):
                self._check_shapes(edge, name, children)
            elif is_kind(_PER_ROW, name):
                self._check_rows(edge, name)
            else:
                raise UnreadLoss(name)
            if getattr(node, "_saved_reduction", 0):
                raise UnreadLoss(f"{name}: a mean of means")
            self.constants(edge, name, is_scaled=is_scaled)
            is_scaled = is_scaled and is_kind(_KEEPS_SCALE, name)
            stack += [(child, is_scaled) for child in children]

    def constants(self, edge: Edge, name: str, *, is_scaled: bool) -> None:
        """Look at the constants that a node multiplies by. Raises UnreadLoss for one that was computed from the whole batch."""
        node = edge[0]
        if not self.reads_values or node in self.folded:
            return
        if is_kind(PRODUCT_WITH_CONSTANT, name) and len(children_of(node)) < len(node.next_functions):
            self._constant(constant_of(node), edge, name, is_scaled=is_scaled)
        if is_kind(INTRINSIC, name):
            self._constant(getattr(node, "_saved_weight", None), edge, name, is_scaled=True)
            self._constant(getattr(node, "_saved_pos_weight", None), edge, name, is_scaled=False)
        if is_kind(NLL, name) and node._saved_weight is not None:
            self.shared.append(_text(node._saved_weight))

    # Inside -----------------------------------------------------------------------------------------------------------------

    def _constant(self, value: Any, edge: Edge, name: str, *, is_scaled: bool) -> None:
        if value is None or (isinstance(value, torch.Tensor) and value.requires_grad):
            return
        if is_scalar(value, self.seen):
            number = float(value)
            if is_scaled and counts_samples(number, self.seen):
                raise UnreadLoss(f"{name}: a factor that counts samples")
            self.shared.append(f"{number:.6g}")
            return
        out = shape_of(edge) or value.shape
        is_data = self.seen > 0 and len(value) == self.seen and value.dim() == len(out)
        if not is_data and self.seen > 0 and value.numel() % self.seen == 0 and len(out) == value.dim():
            is_data = tuple(value.shape) == tuple(out)  # tokens of all samples, one after another
        if not is_data:
            if value.numel() <= _MAX_SHARED:
                self.shared.append(_text(value))
        elif is_normalised(value, self.seen):
            raise UnreadLoss(f"{name}: weights that are normalised over the batch")

    def _is_compiled(self, edge: Edge, name: str) -> bool:
        """A compiled network keeps its rows; a compiled loss is one number."""
        shape = shape_of(edge)
        return bool(is_kind(_COMPILED, name) and shape and self.seen and prod(shape) > 1 and shape[0] % self.seen == 0)

    def _check_product(self, edge: Edge, name: str, children: Sequence[Edge]) -> None:
        """A product of matrices keeps rows apart where its right factor is a weight, or a constant that is no other batch."""
        if any(is_weight(child) for child in children):
            return
        out = shape_of(edge)
        is_left = len(children) == 1 and edge[0].next_functions[0][0] is not None
        if not is_left or out is None or len(out) != 2 or not self.seen or out[1] % self.seen == 0:
            raise UnreadLoss(f"{name}: samples of a batch meet each other")

    def _check_shapes(self, edge: Edge, name: str, children: Sequence[Edge]) -> None:
        """Elementwise nodes may not spread samples over another dimension, as (n, 1) - (n,) does."""
        if name.startswith("MaskedSelect"):
            self.is_selected = True
            return
        out = shape_of(edge)
        if out is None:
            return
        for child in children:
            inner = shape_of(child)
            if inner is None or prod(inner) <= 1:
                continue
            if len(out) != len(inner) and not is_weight(child):
                raise UnreadLoss(f"{name}: shapes {list(inner)} and {list(out)}")
            if len(out) == len(inner) and inner != out and out[0] != inner[0]:
                raise UnreadLoss(f"{name}: shapes {list(inner)} and {list(out)}")
            if len(out) == len(inner) > 1 and any(
                wide != narrow and wide == out[0] and wide > 1 for wide, narrow in zip(out[1:], inner[1:], strict=True)
            ):
                raise UnreadLoss(f"{name}: shapes {list(inner)} and {list(out)}")

    def _check_rows(self, edge: Edge, name: str) -> None:
        node = edge[0]
        dims: list[int] = []
        for attribute in ("_saved_dim", "_saved_dim0", "_saved_dim1", "_saved_dims"):
            value = getattr(node, attribute, None)
            if value is not None:
                dims += [signed(one) for one in (value if isinstance(value, Sequence) else (value,))]
        if name.startswith("Permute"):
            if dims and dims[0] != 0:
                raise UnreadLoss(f"{name}: samples leave the first dimension")
            return None
        rank = len(shape_below(node) or ())
        if name.startswith(("View", "UnsafeView", "Reshape", "NllLoss", "Bmm", "Squeeze")) and not (
            name.startswith("Squeeze") and 0 in dims
        ):
            return self._check_view(edge, name)
        if name.startswith("Index"):
            return self._check_index(node, name)
        if (
            name.startswith(("Split", "Unbind", "Roll", "Flip", "Std", "Var", "Cumsum", "Cat", "Stack", "Slice", "Select"))
            and not dims
        ):
            raise UnreadLoss(name)
        if name.startswith(("Sum", "Mean", "Norm", "LinalgVectorNorm")) and not dims:
            raise UnreadLoss(name)
        if name.startswith("Slice") and 0 in dims:
            start, end = int(getattr(node, "_saved_start", 0) or 0), signed(getattr(node, "_saved_end", 0))
            sizes = getattr(node, "_saved_self_sym_sizes", None)
            if start == 0 and sizes is not None and end >= sizes[0]:
                return None  # x[:, 1:] slices all rows as well
        if any(dim == 0 or (rank and dim % rank == 0) for dim in dims):
            raise UnreadLoss(f"{name}: samples of a batch meet each other")
        return None

    def _check_view(self, edge: Edge, name: str) -> None:
        """The first dimension of a view holds whole samples, one after another."""
        out = shape_of(edge)
        if out and self.seen and out[0] % self.seen and prod(out) > 1 and out[0] != 1:
            inner = getattr(edge[0], "_saved_self_sym_sizes", None)
            if inner is None or not len(inner) or out[0] != inner[0]:
                raise UnreadLoss(f"{name}: samples leave the first dimension")

    def _check_index(self, node: Any, name: str) -> None:
        """A mask, or one element of each row: ``x[mask]``, ``x[arange(n), y]``. Other rows may be chosen twice or paired."""
        indices = getattr(node, "_saved_indices", None) or ()
        first = next((index for index in indices if index is not None), None)
        if first is None or first.dtype in (torch.bool, torch.uint8):
            self.is_selected |= first is not None
            return
        if indices and indices[0] is None:
            return  # x[:, columns]
        rows = torch.arange(first.numel(), device=first.device)
        if len(indices) > 1 and first.dim() == 1 and bool(torch.equal(first, rows)):
            return
        raise UnreadLoss(f"{name}: samples of a batch meet each other")


def is_scalar(value: Any, seen: int) -> bool:
    """Whether a constant is one number for the whole batch; of a batch of one sample a vector is data of that sample."""
    return not isinstance(value, torch.Tensor) or value.dim() == 0 or (value.numel() == 1 and seen != 1)


def counts_samples(value: float, seen: int) -> bool:
    """Whether a factor or divisor may be the number of samples, of a batch of at least two."""
    size = abs(value)
    if seen < 2 or size in (0.0, 1.0):
        return False
    return any(ratio >= 1.0 - 1e-6 and abs(ratio - round(ratio)) < 1e-6 * ratio for ratio in (size / seen, 1.0 / (size * seen)))


def is_normalised(weights: torch.Tensor, seen: int) -> bool:
    """Whether weights of single samples or elements look as if they were divided by, or centred over, the local batch.

    Masks and labels are whole numbers; soft labels sum to the same in every row. Both are data of single samples.
    """
    values = weights.detach().to(torch.float64).reshape(seen, -1)
    if not bool(values.isfinite().all()) or bool((values == values.round()).all()):
        return False
    rows = values.sum(1)
    if float(rows.max() - rows.min()) <= 1e-6 * float(rows.abs().max()):
        return counts_samples(float(rows[0]), seen)
    used = values[values != 0]
    if float(used.max() - used.min()) <= 1e-9 * float(used.abs().max()):  # a mask with a factor
        count = 1.0 / float(used[0])
        return count >= 2 - _TOLERANCE and abs(count - round(count)) < _TOLERANCE * count
    total, scale = float(rows.sum()), float(rows.abs().sum())
    if abs(total) <= _TOLERANCE * scale:
        return True
    if any(abs(total - target) <= _TOLERANCE * target for target in (1.0, float(seen), float(values.numel()))):
        return True
    # Divided by their largest. Weights of classes repeat, and often have a largest of 1.
    return float(used.max()) == 1.0 and used.numel() > 3 and used.unique().numel() > used.numel() // 2


def _text(value: torch.Tensor) -> str:
    """A constant in short: alike where it is the same on all ranks, but for rounding."""
    numbers = value.detach().to(torch.float64)
    return f"{float(numbers.sum()):.5g} {float(numbers.abs().sum()):.5g} {tuple(value.shape)}"
