"""Late reading and its veto: a gradient that is not finite reaches no weight, and the run ends one step later with its reason."""

from __future__ import annotations

import torch

from benchmarks.card.rows import Part, run_part
from benchmarks.card.trainers import Loudness, form_group, made_data, place, small, train, trainer_on


def measure(part: Part, device: str) -> None:
    """One NaN in one step, then an overflow in float16 on the way."""
    from paceline.engine.errors import WorkFailed

    workload, batch = small("agnews-small", device)
    group, data = form_group(place(device)), made_data(workload, 8 * batch)
    trainer = trainer_on(group, workload, data)
    sizes = (batch,)
    train(trainer, 3, sizes)
    weights = _weights(trainer)
    first = next(iter(trainer.replica.model.parameters()))
    hook = first.register_hook(lambda gradient: gradient * torch.nan)
    reason, told_in = "", -1
    for step in (3, 4):
        try:
            train(trainer, 1, sizes, step)
        except WorkFailed as error:
            reason, told_in = str(error), step
            break
        finally:
            hook.remove()
    expected_in = 4 if trainer.step_stats.reads_one_step_late else 3
    part.row("a NaN is told", f"in step {told_in}: {reason}", f"in step {expected_in}, of step 3", told_in == expected_in)
    is_same = torch.equal(weights, _weights(trainer))
    part.row("a NaN reaches no weight", "weights unchanged" if is_same else "weights changed", "unchanged", is_same)

    trainer = trainer_on(group, workload, data, compression="fp16")
    train(trainer, 3, sizes)
    weights = _weights(trainer)
    quiet = trainer.task
    trainer.task = Loudness(quiet.is_classification, 1e9)
    train(trainer, 1, sizes, 3)
    is_same = torch.equal(weights, _weights(trainer))
    trainer.task = quiet
    losses = train(trainer, 4, sizes, 4)
    part.row("an overflow on the way is skipped", "weights unchanged" if is_same else "weights changed", "unchanged", is_same)
    goes_on = bool(torch.isfinite(_weights(trainer)).all()) and not torch.equal(weights, _weights(trainer))
    part.row("and the run goes on", f"loss {losses[-1]:.4g}", "finite weights that move", goes_on)
    if device != "cuda":
        part.unmeasured("the veto on a device that runs behind its host", "torch finds no CUDA device")


def _weights(trainer: object) -> torch.Tensor:
    parameters = trainer.replica.model.parameters()  # type: ignore[attr-defined]  # a Trainer
    return torch.cat([weight.detach().flatten() for weight in parameters]).clone()


if __name__ == "__main__":
    run_part("late reading", measure)
