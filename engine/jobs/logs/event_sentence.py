"""One event of a run as a sentence, and how serious it is. Pure; texts in it are untrusted and escaped where they are shown."""

from __future__ import annotations

from ...events import (
    AllReduceProfiled,
    BalanceJudged,
    BaselineMeasured,
    CaseEnded,
    CaseStarted,
    CaseTested,
    CheckpointWritten,
    DeviceProbed,
    DeviceProfiled,
    EpochEnded,
    Event,
    GradientProfiled,
    GroupReformed,
    LaunchStarted,
    LinkProfiled,
    MetricLogged,
    MonitoringFailed,
    PaceFixed,
    PeerLost,
    PeerSilent,
    ProfilingAdvanced,
    RankFailed,
    RankJoined,
    RunnerEnded,
    RunnerStarted,
    SharesChanged,
    StandaloneMeasured,
    StepSkipped,
    StepTimesProfiled,
    StoreOpened,
    StragglerEnded,
    StragglerFound,
    StrangersRefused,
    SystemProfiled,
    TrialEnded,
    TrialStarted,
)
from ...store.silence import silence_text
from ..mirror.levels import Level

Sentence = tuple[str, Level]


def sentence(event: Event) -> Sentence | None:
    """The sentence of an event and its level; None: this kind has no sentence of its own."""
    return _of_runner(event) or _of_group(event) or _of_training(event) or _of_balancer(event) or _of_measurement(event)


def _of_runner(event: Event) -> Sentence | None:
    match event:
        case RunnerStarted():
            return f"the runner has started{_process(event.pid)}", "info"
        case LaunchStarted():
            return f"torchrun has started{_process(event.pid)}", "info"
        case PeerLost():
            ranks = f", which has {_ranks(event.ranks)}" if event.ranks else ""
            return f"{event.peer or 'a node'}{ranks}, is gone{_because(event.reason)}", "error"
        case PeerSilent():
            return silence_text(event), "info" if event.is_over else "warning"
        case StrangersRefused():
            who = "one stranger" if event.count == 1 else f"{event.count} strangers"
            return f"{who} refused, the last one from {event.address or 'an unknown address'}{_because(event.reason)}", "warning"
        case RunnerEnded(survivors=survivors) if survivors:
            pids = ", ".join(map(str, survivors))
            return f"the run {_ended(event.state)} here, and these processes could not be stopped: {pids}", "error"
        case RunnerEnded():
            return f"the run {_ended(event.state)} here{_because(event.reason)}", "error" if event.state == "failed" else "info"
        case _:
            return None


def _of_group(event: Event) -> Sentence | None:
    match event:
        case GroupReformed():
            lost = f"without {_ranks(event.lost)}" if event.lost else "with all members"
            lost += f", with {_ranks(event.joined)} again" if event.joined else ""
            repeated = f", {event.repeated_steps} steps are repeated" if event.repeated_steps else ""
            stood = f"; training stood for {event.seconds:.1f} s"
            text = f"the group goes on {lost} from step {event.step}{repeated}{stood}{_because(event.reason)}"
            return text, "warning" if event.lost else "info"
        case TrialStarted():
            return f"trial {event.trial} has started", "info"
        case TrialEnded(state="failed"):
            return f"trial {event.trial} failed{_because(event.reason)}", "warning"
        case TrialEnded():
            return f"trial {event.trial} is {event.state} after {event.seconds:,.0f} s", "info"
        case _:
            return None


def _of_training(event: Event) -> Sentence | None:
    match event:
        case StoreOpened():
            return f"rank {event.rank} waits for the others at {event.address}:{event.port}", "info"
        case RankJoined():
            group = f" of {event.world_size}" if event.world_size else ""
            backend = f", {event.backend}" if event.backend else ""
            return f"rank {event.rank} has joined the group{group}{backend}{_process(event.pid)}", "info"
        case CaseStarted():
            sizes = f" with local batches {_sizes(event.local_batch_sizes)}" if event.local_batch_sizes else ""
            return f"{event.case or event.policy or 'training'} begins{sizes}", "info"
        case CaseEnded():
            changes = "no change of shares" if not event.changes else f"{event.changes} changes of shares"
            return f"{event.case or 'training'} is over after {changes if event.changes != 1 else '1 change of shares'}", "info"
        case EpochEnded():
            return _epoch(event), "info"
        case CaseTested():
            figures = _figures(loss=event.loss, mae=event.mae, r2=event.r2, **_metric(event.metric_name, event.metric))
            return f"{event.case or 'the model'} on the test part{figures}", "info"
        case StepSkipped():
            return f"step {event.step} was skipped{_because(event.reason)}", "warning"
        case MetricLogged():
            value = "is not finite" if event.value is None else f"is {event.value:.5g}"
            return f"epoch {event.epoch + 1}: {event.name} {value}", "info" if event.value is not None else "warning"
        case CheckpointWritten() if event.error:
            return f"checkpoint {event.name} could not be written: {event.error}", "warning"
        case CheckpointWritten():
            waited = f"; training waited {event.stall_seconds * 1000:.0f} ms"
            return f"checkpoint {event.name} written at step {event.step}, {event.size / 1e6:,.1f} MB{waited}", "info"
        case MonitoringFailed():
            return f"{event.part or 'a part'} failed, the training goes on without it{_because(event.reason)}", "warning"
        case RankFailed(is_collateral=True):
            return f"rank {event.rank} ended because another rank was gone{_because(event.reason)}", "warning"
        case RankFailed():
            return f"rank {event.rank} failed{_because(event.reason)}", "error"
        case _:
            return None


def _of_balancer(event: Event) -> Sentence | None:
    match event:
        case SharesChanged():
            text = f"step {event.step}: shares {_sizes(event.before)} → {_sizes(event.after)}{_because(event.reason)}"
            if event.predicted_before is not None and event.predicted_after is not None:
                text += f"; predicted {event.predicted_before * 1000:,.0f} → {event.predicted_after * 1000:,.0f} ms a step"
            return text, "info"
        case StragglerFound():
            who = "the network" if event.straggler is None else f"rank {event.straggler}"
            part = "" if event.straggler is None else f", its {event.cause}"
            return f"{who} is {event.slowdown:.2f}x slower since step {event.since}{part}", "warning"
        case StragglerEnded():
            who = "the network" if event.straggler is None else f"rank {event.straggler}"
            gain = "" if event.gain is None else f"; changed shares brought back {event.gain:.0%} of the lost time"
            return f"{who} is as fast as before from step {event.step} on{gain}", "info"
        case BalanceJudged(state="balanced"):
            loss = f", its loss is a {event.loss}" if event.loss else ""
            return f"the script is balanced through {event.door or 'its loader'}{loss}", "info"
        case BalanceJudged():
            return f"the script runs as it is, with equal shares{_because(event.reason or '')}", "info"
        case _:
            return None


def _of_measurement(event: Event) -> Sentence | None:
    match event:
        case (
            DeviceProfiled(error=reason)
            | StepTimesProfiled(error=reason)
            | LinkProfiled(error=reason)
            | AllReduceProfiled(error=reason)
            | GradientProfiled(error=reason)
            | SystemProfiled(error=reason)
        ) if reason:
            return f"a measurement failed: {reason}", "warning"
        case DeviceProbed():
            return f"rank {event.rank} was timed: {_rate(event.seconds_per_sample)}", "info"
        case StandaloneMeasured():
            rate = f"{event.samples_per_second:,.1f} samples/s"
            return f"rank {event.rank} alone reaches {rate} at local batch {event.local_batch_size}", "info"
        case BaselineMeasured():
            rate = f"{event.samples_per_second:,.1f} samples/s"
            return f"rank {event.rank} alone with the whole batch of {event.local_batch_size} reaches {rate}", "info"
        case TrialStarted():
            return f"trial {event.trial} begins on rank {event.rank}", "info"
        case TrialEnded():
            if event.state == "done":
                return f"trial {event.trial} is done after {event.seconds:,.1f} s", "info"
            return f"trial {event.trial} failed after {event.seconds:,.1f} s{_because(event.reason)}", "warning"
        case PaceFixed():
            return f"an emulated device of speed 1 is paced to {event.rate:,.1f} samples/s", "info"
        case ProfilingAdvanced():
            return f"{event.fraction:.0%} measured{f', next: {event.phase}' if event.phase else ''}", "info"
        case _:
            return None


def _epoch(event: EpochEnded) -> str:
    of = f" of {event.epochs}" if event.epochs else ""
    rate = f", {event.samples / event.seconds:,.0f} samples/s" if event.seconds > 0 else ""
    figures = _figures(loss=event.loss, **_metric(event.metric_name, event.metric))
    return f"{event.case or 'training'}: epoch {event.epoch + 1}{of} is over{rate}{figures}"


def _metric(name: str, value: float | None) -> dict[str, float | None]:
    return {name or "metric": value}


def _figures(**figures: float | None) -> str:
    parts = [
        f"{name} {value * 100:.1f} %" if name == "accuracy" else f"{name} {value:.4g}"
        for name, value in figures.items()
        if value is not None
    ]
    return f", {', '.join(parts)}" if parts else ""


def _process(pid: int) -> str:
    return f", process {pid}" if pid else ""


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""


def _ended(state: str) -> str:
    return {"done": "is done", "failed": "failed", "cancelled": "was cancelled"}.get(state, f"is {state}")


def _ranks(ranks: tuple[int, ...]) -> str:
    return f"rank{'s' if len(ranks) != 1 else ''} {', '.join(map(str, ranks))}"


def _rate(seconds_per_sample: float) -> str:
    return f"{1.0 / seconds_per_sample:,.1f} samples/s" if seconds_per_sample > 0 else "its rate is unknown"


def _sizes(sizes: tuple[int, ...]) -> str:
    return "/".join(map(str, sizes))
