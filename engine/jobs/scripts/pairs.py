"""From ``--model``, ``--dataset``, ``--workload`` and their options to the script of a pair. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import UsageError
from ...specs import ScriptSpec, TrainSpec
from ...workloads.options import OPTIONS, Value
from ...workloads.pairs import Pair, choose, pair_of

_TRAINER_ONLY = {"accumulation": 1, "local_steps": 1, "compression": "none", "sync_batch_norm": False}
"""Options of the trainer's own loop, which scripts do not have, with their defaults."""


def script_of_pair(values: Mapping[str, Any]) -> ScriptSpec | None:
    """The packaged script of the pair that the option values of a verb name; None where they name a workload of the trainer.

    Raises UsageError for what does not exist or does not fit, and for an option that the pair does not have.
    """
    given = {name: option.read(str(values[name])) for name, option in OPTIONS.items() if values.get(name) is not None}
    pair = _pair(values, given)
    if pair is None:
        if given:
            name = next(iter(given))
            reason = f"{OPTIONS[name].flag} is an option of models, and {values.get('workload')} has its own"
            raise UsageError(reason, hint="name a model with --model, such as --model simple-cnn --dataset digits")
        return None
    for name, default in _TRAINER_ONLY.items():
        if values.get(name, default) not in (default, None):
            flag = "--" + name.replace("_", "-")
            raise UsageError(f"{flag} is for the workloads of the trainer, and {pair.name} is a script", hint="leave it out")
    return ScriptSpec(
        pair.model.script, pair.arguments, data=(pair.dataset.name,), is_packaged=True, workload=pair.name
    )  # a name in lists and results


def _pair(values: Mapping[str, Any], options: Mapping[str, Value]) -> Pair | None:
    model, dataset, workload = values.get("model"), values.get("dataset"), values.get("workload")
    given: dict[str, Value] = dict(options)
    for name, key in (("epochs", "epochs"), ("global_batch_size", "batch"), ("seed", "seed"), ("precision", "precision")):
        if values.get(name):
            given[key] = values[name]
    if model is None and dataset is None:
        return None if workload is None else pair_of(workload, given)
    if workload not in (None, TrainSpec().workload):
        raise UsageError("--workload names a model and a data set already", hint="leave out --model and --dataset, or --workload")
    return choose(model, dataset, given)
