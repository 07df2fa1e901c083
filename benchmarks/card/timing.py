"""Step times by our timer beside torch's profiler, whose trace has the start and end of every kernel."""

from __future__ import annotations

import time

from benchmarks.card.rows import Part, run_part
from benchmarks.card.trainers import form_group, made_data, place, small, train, trainer_on

STEPS = 20


def measure(part: Part, device: str) -> None:
    """Sum of the parts that the timer names, against the span of the work."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    workload, batch = small("agnews-small", device)
    on = place(device)
    trainer = trainer_on(form_group(on), workload, made_data(workload, 8 * batch))
    train(trainer, 5, (batch,))
    trainer.timer.synchronize()
    trainer.timer.take_measured()
    is_cuda = device == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if is_cuda else ProfilerActivity.CPU]) as trace:
        start = time.perf_counter()
        train(trainer, STEPS, (batch,), 5)
        launched = time.perf_counter() - start
        trainer.timer.synchronize()
        wall = time.perf_counter() - start
    measured = trainer.timer.take_measured()
    part.row("steps measured", str(len(measured)), str(STEPS), len(measured) == STEPS)
    total = sum(times.compute_seconds + times.wait_seconds + (times.optimizer_seconds or 0.0) for times in measured)
    if is_cuda:
        spans = [one.time_range for one in trace.events() if str(one.device_type).endswith("CUDA")]
        traced = (max(span.end for span in spans) - min(span.start for span in spans)) / 1e6
        part.near("all steps, by CUDA events", 1000 * total, 1000 * traced, 0.1, "ms", "ms by the trace")
        backward = sum(times.backward_seconds or 0.0 for times in measured)
        part.row("backward, of compute", f"{backward / sum(times.compute_seconds for times in measured):.0%}", "30 to 85 %")
        part.row(
            "the host runs ahead of the device",
            f"launched in {1000 * launched:.3g} of {1000 * wall:.3g} ms",
            "no wait inside an epoch",
            launched <= 1.01 * wall,
        )
    else:
        part.near("all steps, by the host's clock", 1000 * total, 1000 * wall, 0.2, "ms", "ms of wall time")
        part.unmeasured("CUDA events beside a trace", "torch finds no CUDA device")
    step = sum(times.compute_seconds for times in measured) / len(measured)
    part.row("a step, with the profiler on", f"{1000 * step:.3g} ms on {torch.__version__}")


if __name__ == "__main__":
    run_part("timing", measure)
