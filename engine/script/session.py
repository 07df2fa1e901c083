"""One training process of a script: from a batch that is handed out to the gradient of the whole batch, step by step.

Loaders report the cuts they hand out, models their forwards, and every backward passes through here: it reads the loss, weighs it,
runs the engine, and takes the slot of all ranks. docs/design/scripts.md describes the protocol.
"""

from __future__ import annotations

import sys
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import torch
import torch.distributed as dist

from ..balancer.step_phases import StepWork
from ..balancer.step_time import StepTime
from ..errors import PlanImpossible, WorkFailed
from ..states import Policy
from ..training.probe import USABLE_MEMORY_FRACTION
from .balance import Balance
from .checkpoint import RunCheckpoints
from .gradient.cuts import Cut
from .gradient.loss import Reading, read_loss
from .gradient.model import Wrapped, is_output
from .gradient.slot import VALUES
from .gradient.weights import Number, Weighing, Weights, no_gradient_without
from .judge import OBSERVED_STEPS, Judge
from .pacing import UNPACED_STEPS, PacedTimer
from .recorder import ScriptRecorder, StopScript
from .timing import ScriptTimer

_MESSAGE_VALUES = 8
"""Counts that one message carries: losses of more terms are weighed by samples."""
LARGE_TENSOR = 256
"""Elements from which a tensor that the script sums over ranks holds gradients or samples; smaller ones are metrics."""


@dataclass(slots=True)
class Handed:
    """A batch that a loader handed out and that no model has trained yet."""

    loader: int
    cut: Cut
    pointers: frozenset[int] = frozenset()
    """Where its tensors lie."""


@dataclass(slots=True)
class ScriptSession:
    """State of one rank."""

    rank: int
    world: int
    device: torch.device
    timer: ScriptTimer
    policy: Policy
    is_library: bool
    """Whether the script uses the library; else it is unchanged, and begins as it is."""
    recorder: ScriptRecorder
    judge: Judge = field(default_factory=Judge)
    models: list[Wrapped] = field(default_factory=list)
    balance: Balance | None = None
    """Of the training loader; None until it is known."""
    weighing: Weighing = field(init=False)
    pending: deque[Handed] = field(default_factory=deque)
    current: Cut | None = None
    """Of the batch that was trained last."""
    step: int = 0
    """Exchanges so far."""
    trained_samples: int = 0
    """Of this rank, since running statistics were pooled."""
    compared: set[tuple[str, ...]] = field(default_factory=set)
    """Signatures of losses that cannot be read, but that equal the weighted losses of their parts."""
    reader: Callable[..., Reading] = read_loss
    profile: tuple[StepTime, ...] = ()
    """Of all ranks, from which shares start; empty: unknown."""
    checkpoints: RunCheckpoints | None = None
    """Of the run under Paceline."""
    resumed_samples: int = 0
    """Of the epoch in which a resumed run goes on: the training loader leaves them out."""
    batch: int | None = None
    """Global batch of the library's training loaders instead of their own."""
    max_steps: int | None = None
    """Steps after which the script is stopped, because it is only measured."""
    optimizer_steps: int = 0
    is_strict: bool = False
    """Whether a script that cannot be balanced ends instead of running as it is."""
    door: str | None = None
    """Kind of the training loader."""
    shows_stand_ins: bool = False
    """Whether other ranks see the samples that only stand in on a rank without samples: in counts that the script sums itself."""
    _depth: int = 1
    """Batches that the script holds at most when it trains one: those before them were left out."""
    _is_by_memory: bool = False
    """Whether the script has trained a batch in the memory in which it was handed out."""
    _shared: int = 0
    """A number made of the constants of all losses of this step."""
    _ends_epoch: bool = False
    """Whether the training loader is exhausted, while the script still holds batches of it."""
    _told: set[str] = field(default_factory=set)
    _foreign: str | None = None
    """Why the newest batch, of a loader that is no door, cannot be balanced."""
    _hindrance: str | None = None
    """The same, of the batch that the newest forward took."""
    _taken: int = 0
    """Batches that forwards took since the last backward."""
    _is_trained: bool = False
    """Whether a model of this session has computed gradients since the optimizer stepped."""
    _untrained_steps: int = 0
    _reduced: set[int] = field(default_factory=set)
    """Addresses of tensors that the script has summed over ranks since the optimizer stepped."""
    _given: Number | None = None
    """Count that the script gave with its sum of losses."""
    _part: float | None = None
    """Fraction of the local batch in the loss, where the library trains it in micro-batches."""
    _is_open: bool = False
    _is_exchanged: bool = False
    _is_sent: bool = False
    """Whether an exchanging backward has begun and not ended."""
    _adds_up: bool = False
    """Whether gradients of an earlier backward may still be there."""
    _cuts: list[Cut] = field(default_factory=list)
    """Of this step."""
    _kinds: set[str] = field(default_factory=set)
    _late: tuple[Any, ...] | None = None

    def __post_init__(self) -> None:
        self.weighing = Weighing(self.world, self._sum_counts, self.is_library)
        if self.is_library:
            self.judge.state = "balanced"

    # Batches ----------------------------------------------------------------------------------------------------------------

    def begin_loader(self, loader: int) -> None:
        """A loader starts again: what it handed out before and nobody trained is gone."""
        self.pending = deque(entry for entry in self.pending if entry.loader != loader)
        self._end_held_epoch()

    def take(self) -> None:
        """A batch is asked for."""
        self._open()

    def hand_out(self, loader: int, cut: Cut, pointers: frozenset[int] = frozenset()) -> None:
        """A batch was handed out. ``pointers``: where its tensors lie."""
        self.timer.loaded()
        self._foreign = None
        if not self.models:  # alone no forward takes it
            self.pending.clear()
        for entry in self.pending:
            entry.pointers -= pointers  # the memory of a batch that is gone
        self.pending.append(Handed(loader, cut, pointers))

    def hand_out_foreign(self, reason: str) -> None:
        """A batch of a loader that is no door was handed out; ``reason`` says why it is none."""
        self._foreign = reason

    def evaluated(self) -> None:
        """A model ran without gradients: a batch of a loader that is no door was not trained."""
        self._foreign = None

    # Forward ----------------------------------------------------------------------------------------------------------------

    def begin_forward(self, wrapped: Wrapped, sizes: frozenset[int], pointers: frozenset[int] = frozenset()) -> None:
        """A forward with gradients begins. ``sizes``: first dimensions of its inputs; ``pointers``: where they lie."""
        self._open()
        if len({entry.loader for entry in self.pending}) > 1:
            self.judge.notice("it takes the batches of several loaders")
        self._hindrance = self._foreign
        if self._foreign is not None:
            self.current = None
        elif self.pending and (cut := self._next_trained(wrapped, sizes, pointers)) is not None:
            self.current = cut
            self._taken += 1
            wrapped.forget()  # what a forward without backward left
            self._cuts.append(cut)
            self.trained_samples += cut.own
        elif self.current is None:
            self.judge.notice("it trains batches that come from no loader")
        elif wrapped.forwards == 0 and sizes and self.current.seen not in sizes and min(sizes) < self.current.seen:
            self.judge.notice("it trains a batch in parts")
        self.timer.resize(sum(cut.own for cut in self._cuts))
        self.timer.copied()

    def _next_trained(self, wrapped: Wrapped, sizes: frozenset[int], pointers: frozenset[int]) -> Cut | None:
        """Take the batch that a forward trains from those that were handed out; None: the one before once more.

        It is the one whose memory the forward reads; else, on a device that got a copy, the oldest that the script can still hold.
        """
        if self.judge.state == "observing" or (self.is_library and self.step < OBSERVED_STEPS):
            self._depth = max(self._depth, len(self.pending))
        for place, entry in enumerate(self.pending):
            if entry.pointers & pointers:
                del self.pending[place]
                self._is_by_memory = True
                return entry.cut
        if self._is_by_memory and wrapped.forwards and self.current is not None and self.current.seen in sizes:
            return None  # another view of the batch
        while len(self.pending) > self._depth:
            self.pending.popleft()
        cut = self.pending.popleft().cut
        while self.pending and sizes and cut.seen not in sizes and self.pending[0].cut.seen in sizes:
            cut = self.pending.popleft().cut  # the script left a batch out
        return cut

    def end_forward(self) -> None:
        """The forward has returned."""
        self.timer.forward_ends()

    # Backward ---------------------------------------------------------------------------------------------------------------

    def backward_sum(self, loss: torch.Tensor, count: Number) -> None:
        """Back-propagate a sum of losses with its count."""
        self._given = count
        try:
            torch.autograd.backward(loss)
        finally:
            self._given = None

    def backward_part(self, loss: torch.Tensor, part: float) -> None:
        """Back-propagate the mean over a part of the local batch."""
        self._part = part
        try:
            torch.autograd.backward(loss)
        finally:
            self._part = None

    def backward(
        self, engine: Callable[..., None], roots: list[torch.Tensor], gradients: list[torch.Tensor | None], **options: Any
    ) -> None:
        """Back-propagate through ``engine``, torch's own function, with this rank's weight, and exchange where DDP does."""
        below = [model for model in self.models if model.forwards and model.is_below(roots)]
        if not below:
            return engine(roots, gradients, **options)
        wrapped, *others = below
        is_exchange = bool(wrapped.anchors)
        if wrapped.has_no_gradient():
            self._adds_up = False
        cut = self.current
        if self._hindrance is not None:
            self.judge.notice(self._hindrance)
        if self._taken > 1:
            self.judge.notice("one backward of it trains several batches")
        self._taken = 0
        weights = self._weigh(roots, cut, adds_up=self._adds_up or not is_exchange)
        scaled = [_scale(root, gradient, weights.root) for root, gradient in zip(roots, gradients, strict=True)]
        handles = [node.register_prehook(_multiply_by(factor)) for node, factor in weights.terms]
        handles += [node.register_hook(no_gradient_without(count)) for node, count in weights.empty]
        anchors = [anchor for model in below if not model.is_attached for anchor in model.anchors]
        for model in others:  # their slots say nothing, but DDP waits for them
            model.fill = model.slot.zeros
        loss = roots[0].detach() if roots[0].numel() == 1 else None
        fingerprint = self._fingerprint(cut)
        wrapped.fill = lambda: self._fill(wrapped, weights, loss, fingerprint)
        self._is_sent = is_exchange
        try:
            engine([*roots, *anchors], [*scaled, *(torch.ones_like(anchor) for anchor in anchors)], **options)
        finally:
            for handle in handles:
                handle.remove()
            for model in others:
                model.take_slot()
        self._is_sent = False
        self._adds_up = True
        if not is_exchange:
            wrapped.forwards = 0
            self.timer.micro_batch_ends()
            return None
        self.timer.end()
        self._is_exchanged = self._is_trained = True
        self._exchange(wrapped, cut, fingerprint)
        return None

    def zeroed(self) -> None:
        """Gradients were set to zero or None."""
        self._adds_up = False

    def reduced(self, tensor: torch.Tensor) -> None:
        """The script sums a tensor over ranks, between a backward and the optimizer's step or without DDP."""
        self._reduced.add(tensor.data_ptr())
        if tensor.numel() >= LARGE_TENSOR and (self._is_exchanged or not self.models):
            self.judge.notice("it averages gradients itself")

    def summed_value(self) -> None:
        """The script sums one number over ranks: most often it then divides it by their number."""
        if self.judge.state == "balanced" and self.balance is not None and len(set(self.balance.sizes)) > 1:
            self._tell(
                "it sums a value over ranks that train unlike batches: divided by the number of ranks it is a mean of means "
                "(sum the values and the samples instead)"
            )

    def gathered(self, tensors: Sequence[torch.Tensor], *, is_evaluation: bool) -> None:
        """The script collects these tensors, its own or what the others' will be written to, from all ranks."""
        if not self.is_between_batch_and_backward:
            seen = self.current.seen if self.current is not None else 0
            is_training = self.judge.state == "observing" and self._is_open and not is_evaluation
            if is_training and seen > 1 and any(value.dim() and len(value) == seen for value in tensors):
                self.judge.notice("its metrics collect samples")
            return
        if any(value.numel() == 1 and not value.requires_grad for value in tensors):
            self.shows_stand_ins = True  # a count
        else:
            self.judge.notice("its loss collects samples")

    def stepped(self, optimizer: torch.optim.Optimizer) -> None:
        """The optimizer has stepped."""
        self.optimizer_steps += 1
        if self._is_sent:
            self.judge.notice("its optimizer steps inside backward")
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        if self._reduced and any(weight.grad is not None and weight.grad.data_ptr() in self._reduced for weight in weights):
            self.judge.notice("it averages gradients itself")
        self._reduced.clear()
        if self._is_open and self._is_exchanged:
            self._close()
        if self._is_trained or self.is_library or self.judge.state == "as-is":
            self._is_trained = False
            return
        self._untrained_steps += 1
        if self._untrained_steps >= OBSERVED_STEPS:  # no exchange reaches the others; none is needed
            self.judge.notice(self._why_untrained(weights))
            self.judge.agree([self.judge.own_code])
            self._report_verdict()

    def _why_untrained(self, weights: Sequence[torch.Tensor]) -> str:
        if any(type(weight).__name__ in ("DTensor", "FlatParameter") for weight in weights):
            return "it trains with FSDP"
        if "deepspeed" in sys.modules:
            return "it shares its model through DeepSpeed"
        return "it averages weights instead of gradients" if self.models else "it trains without DistributedDataParallel"

    def end_epoch(self) -> None:
        """The training loader is exhausted."""
        self._ends_epoch = True
        if self.pending:
            return  # the script has fetched its last batches and not trained them yet
        if self._is_open and self._is_exchanged:
            self._close()
        self._end_held_epoch()

    def _end_held_epoch(self) -> None:
        if self._ends_epoch:
            self._ends_epoch = False
            self.recorder.end_epoch(self.timer, () if self.balance is None else self.balance.sizes)

    @property
    def is_between_batch_and_backward(self) -> bool:
        """Whether a batch is at work, and its gradients are not exchanged yet."""
        return self._is_open and not self._is_exchanged and torch.is_grad_enabled()

    @property
    def is_between_steps(self) -> bool:
        """Whether all that was handed out is trained and the optimizer has stepped."""
        return not self._is_open and not self.pending

    @property
    def is_before_step(self) -> bool:
        """Whether gradients are computed, and the optimizer has not stepped."""
        return (self._is_open and self._is_exchanged) or self._adds_up or not self.models

    @property
    def is_exchanging(self) -> bool:
        """Whether gradients of this step are on their way to other ranks, so that the step cannot be repeated."""
        return self._is_sent

    def next_cut(self) -> Cut | None:
        """Return the cut of the batch that is trained next."""
        return self.pending[0].cut if self.pending else self.current

    def repeat(self, cut: Cut | None) -> None:
        """Begin a step again whose gradients nobody has seen."""
        for model in self.models:
            model.forget()
        self._adds_up = False
        self._cuts = [cut] if cut is not None else []
        self.current = cut
        self.pending = deque(entry for entry in self.pending if entry.cut is not cut)

    def use_library(self) -> None:
        """The script uses the library: nothing has to be found out."""
        self.is_library = self.weighing.is_library = self.weighing.has_messages = True
        self.judge = Judge("balanced")
        self.recorder.judged(self.judge, None, "library")

    def exact_sum(self, values: list[float]) -> list[float]:
        """Return the sums over all ranks, in float64. Collective."""
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return [float(value) for value in tensor.tolist()]

    # Inside -----------------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        if self._is_open and not self._is_exchanged:
            return
        if self._is_open:
            self._close()
        if self.max_steps is not None and max(self.step, self.optimizer_steps) >= self.max_steps:
            raise StopScript
        self._is_open, self._is_exchanged = True, False
        self._cuts = []
        self.timer.begin(self.step, 0)
        self.timer.loaded()
        self.recorder.begin_step(self.step)

    def _close(self) -> None:
        self._is_open = False
        self.timer.stepped()
        self.recorder.end_step(self.timer)
        if not self.pending:
            self._end_held_epoch()

    def _weigh(self, roots: Sequence[torch.Tensor], cut: Cut | None, *, adds_up: bool) -> Weights:
        if self._given is not None:
            return self.weighing.of_sum(self._given, cut, adds_up=adds_up)
        if cut is None or (self.judge.state == "as-is" and cut.is_own):
            return Weights()
        is_single = len(roots) == 1
        reads_values = self.judge.state == "observing" or (self.is_library and self.step <= OBSERVED_STEPS)
        if is_single:
            reading = self.reader(roots[0], cut.seen, is_output, reads_values=reads_values)
        else:
            reading = Reading(unknown="several losses at once")
        self._kinds.add(reading.kind or "unknown")
        self._shared = zlib.crc32(str(reading.shared).encode(), self._shared)
        if reading.unknown is not None and reading.signature not in self.compared:
            if self.is_library:
                self._tell(f"its loss cannot be read ({reading.unknown}): the loss of each device counts by its samples")
            else:
                meets = "meet each other" in reading.unknown
                self.judge.notice("samples of a batch meet" if meets else "its loss cannot be read", reading.unknown)
            return Weights() if cut.is_own else self._by_samples(cut)
        if cut.is_own:
            self.weighing.remember(reading, cut)
            self.weighing.wants_message |= self.weighing.needs_message(reading, adds_up=adds_up)
            return Weights()
        if self._part is not None:
            return self.weighing.of_samples(cut, self._part)  # ranks have unlike numbers of parts: no messages
        if reading.unknown is not None or len(reading.terms) > _MESSAGE_VALUES:
            return self._by_samples(cut)
        return self.weighing.of_loss(reading, cut, adds_up=adds_up)

    def _tell(self, text: str) -> None:
        """Say something once, on rank 0."""
        if self.rank == 0 and text not in self._told:
            self._told.add(text)
            print(f"paceline: {text}", flush=True)

    def _by_samples(self, cut: Cut) -> Weights:
        if self._part is not None:
            return self.weighing.of_samples(cut, self._part)
        if self.weighing.has_messages:
            self._sum_counts([])  # the other ranks may have read the loss
        return self.weighing.of_samples(cut)

    def _fill(self, wrapped: Wrapped, weights: Weights, loss: torch.Tensor | None, fingerprint: float) -> torch.Tensor:
        """Return this rank's row of the slot: all of its gradients are computed now."""
        work = self.timer.last_gradient()
        values = (
            work.seconds,
            work.samples,
            work.data_seconds,
            work.copy_seconds,
            work.host_seconds,
            work.wait_seconds,
            fingerprint,
            float(self.judge.own_code),
            0.0 if self.balance is None else self.balance.fingerprint(),
            float(self.weighing.wants_message),
            float(self._shared),
        )
        return wrapped.slot.fill(values, weights.count, loss)

    def _fingerprint(self, cut: Cut | None) -> float:
        sizes = None if cut is None else (cut.is_own, cut.sizes)
        return float(zlib.crc32(repr((self.step, sizes)).encode()))

    def _exchange(self, wrapped: Wrapped, cut: Cut | None, fingerprint: float) -> None:
        gradient = wrapped.take_slot()
        step, self.step = self.step, self.step + 1
        cuts, self._cuts = self._cuts, []
        self._shared = 0
        if self.judge.state == "observing" and any(
            weight._backward_hooks or weight._post_accumulate_grad_hooks for weight in wrapped.parameters
        ):
            self.judge.notice("it changes gradients before")
        if gradient is None:
            return
        total = 0 if cut is None else cut.total
        if gradient.is_cuda:
            self._correct_on_device(wrapped, wrapped.slot.counts(gradient), total)
            kept = torch.empty(gradient.shape, dtype=gradient.dtype, pin_memory=True)
            kept.copy_(gradient, non_blocking=True)
            copied = torch.cuda.Event()
            copied.record()
            late, self._late = self._late, (wrapped, kept, copied, step, cuts, fingerprint, total)
            if late is not None:
                late[2].synchronize()
                self._read(late[0], late[1], *late[3:], corrects=False)
            return
        self._read(wrapped, gradient, step, cuts, fingerprint, total, corrects=True)

    def _correct_on_device(self, wrapped: Wrapped, counts: torch.Tensor, samples: int) -> None:
        """Correct the gradients by the sum of counts, without waiting for the device."""
        total = counts.sum()
        factor = samples * self.weighing.ratio / total
        factor = torch.where(factor.isfinite(), factor, torch.ones_like(factor))
        for gradient in wrapped.gradients():
            gradient.mul_(factor.to(gradient.dtype))

    def _read(
        self,
        wrapped: Wrapped,
        gradient: torch.Tensor,
        step: int,
        cuts: list[Cut],
        fingerprint: float,
        total: int,
        *,
        corrects: bool,
    ) -> None:
        """Take the rows of all ranks of one exchange."""
        rows = wrapped.slot.rows(gradient)
        if rows is None:
            self.weighing.is_slot_broken = True
            self.judge.notice("its own communication hook")
            self.judge.agree([self.judge.own_code])
            self._report_verdict()
            return
        column = dict(zip(VALUES, rows.T.tolist(), strict=True))
        if any(value != fingerprint for value in column["fingerprint"]):
            raise WorkFailed(
                f"ranks trained different batches in step {step}", hint="every rank has to take as many batches, in the same order"
            )
        self.weighing.agree(column["wants"])
        factor = self.weighing.correction(column["count"], total)
        if corrects and factor != 1.0:  # a GPU has corrected its gradients already
            torch._foreach_mul_(wrapped.gradients(), factor)
        if any(value != column["shared"][0] for value in column["shared"]) and all(cut.is_own for cut in cuts):
            self.judge.notice("its loss cannot be read", "a factor of it differs between ranks")
        if 0 < sum(isfinite(count) for count in column["count"]) < self.world:
            self.judge.notice("its loss cannot be read", "ranks read it differently")
        works = [
            StepWork(*values)
            for values in zip(
                column["seconds"],
                map(round, column["samples"]),
                column["data"],
                column["copy"],
                column["host"],
                column["wait"],
                strict=True,
            )
        ]
        if isinstance(self.timer, PacedTimer) and step == UNPACED_STEPS - 1:
            rate = self.timer.fix(step, column["seconds"], sum(cut.total for cut in cuts))
            if rate is not None:
                self.recorder.pace_fixed(rate)
        first = self.timer.first_paced_step if isinstance(self.timer, PacedTimer) else 0
        is_paced = first is not None and step >= first
        self.recorder.report(step, sum(cut.total for cut in cuts), works if is_paced else [], _mean_loss(column["loss"], cuts))
        if not self.is_library and self.judge.agree(column["code"]):
            self._report_verdict()
        if self.balance is None or self.judge.state != "balanced" or not cuts or not is_paced:
            return
        sizes = cuts[0].sizes if all(cut.sizes == cuts[0].sizes for cut in cuts) else ()
        adopted = self.balance.observe(sizes, works, len(cuts), column["shares"])
        if adopted is not None:
            self.recorder.shares_changed(self.step, *adopted)

    def _report_verdict(self) -> None:
        """Report the verdict; before the first unequal batch each device's memory bounds its share."""
        if self.judge.state == "balanced" and self.balance is not None and self.device.type == "cuda":
            self.balance.bound(self._max_samples(self.balance))
        if self.is_strict and self.judge.state == "as-is":
            raise PlanImpossible(f"not balanced: {self.judge.reason}", hint="without --strict the script runs as it is")
        self.recorder.judged(self.judge, " and ".join(sorted(self._kinds - {"unknown"})) or None, self.door)

    def _max_samples(self, balance: Balance) -> list[int]:
        """Return the samples that every rank's device holds, as if all its memory in use grew with the batch. Collective."""
        bounds = torch.zeros(self.world, dtype=torch.float64, device=self.device)
        peak, memory = self.timer.peak_memory(), self.timer.memory_total()
        if peak and memory and self.current is not None:
            bounds[self.rank] = self.current.seen * USABLE_MEMORY_FRACTION * memory / peak
        dist.all_reduce(bounds)
        return [max(1, int(bound)) if bound else balance.problem.global_batch_size for bound in bounds.tolist()]

    def _sum_counts(self, counts: list[Number]) -> list[Number]:
        """Sum some counts over all ranks. Collective."""
        message = torch.zeros(_MESSAGE_VALUES, dtype=torch.float64, device=self.device)
        # A rank without terms sends zeros: all ranks send in every backward.
        for place, count in enumerate(counts):
            message[place] = count
        dist.all_reduce(message)
        return list(message[: len(counts)]) if self.device.type == "cuda" else message[: len(counts)].tolist()


def _mean_loss(losses: Sequence[float], cuts: Sequence[Cut]) -> float | None:
    """Mean of the local losses, weighed by samples."""
    if not cuts or not all(isfinite(loss) for loss in losses):
        return None
    sizes = cuts[-1].sizes
    return sum(loss * size for loss, size in zip(losses, sizes, strict=True) if size) / max(sum(sizes), 1)


def _scale(root: torch.Tensor, gradient: torch.Tensor | None, factor: Number) -> torch.Tensor | None:
    if isinstance(factor, float) and factor == 1.0:
        return gradient
    if gradient is None:
        gradient = torch.ones_like(root)
    return gradient * (factor.to(root.device, root.dtype) if isinstance(factor, torch.Tensor) else factor)


def _multiply_by(factor: Number) -> Callable[[tuple[torch.Tensor | None, ...]], tuple[torch.Tensor | None, ...]]:
    def hook(gradients: tuple[torch.Tensor | None, ...]) -> tuple[torch.Tensor | None, ...]:
        return tuple(
            None if gradient is None else gradient * (factor.to(gradient) if isinstance(factor, torch.Tensor) else factor)
            for gradient in gradients
        )

    return hook
