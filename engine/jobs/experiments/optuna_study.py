"""Optuna behind ``search``: which parameters to try next (ask), and a study file that optuna-dashboard opens (tell).

The journal of the experiment is the truth. Every question is asked to a study made of its rows, with a seed of its own, so that a
search that was interrupted asks for the same trials.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import UsageError
from ...experiments.sampled import Sampled, Space
from ...experiments.search import Value

STUDY_FILE = "optuna.journal"
STARTUP_TRIALS = 8
"""Trials at random before TPE begins to compare."""


def import_optuna() -> Any:
    """The package. Raises UsageError where it is missing, with the command that installs it."""
    try:
        import optuna
    except ImportError:
        raise UsageError("this search needs Optuna, which is not installed here", hint="pip install optuna") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def suggest(
    space: Space, known: Sequence[Sampled], count: int, *, seed: int, is_random: bool, is_max: bool
) -> list[dict[str, Value]]:
    """Parameters of the next trials: by TPE, or at random. The same question gives the same answer."""
    optuna = import_optuna()
    with _quiet():
        if is_random:
            sampler = optuna.samplers.RandomSampler(seed=seed + len(known))
        else:
            sampler = optuna.samplers.TPESampler(seed=seed + len(known), n_startup_trials=STARTUP_TRIALS, constant_liar=True)
        study = optuna.create_study(sampler=sampler, direction=_direction(is_max))
        distributions = _distributions(optuna, space)
        for one in known:
            study.add_trial(_frozen(optuna, one, distributions))
        return [dict(study.ask(distributions).params) for _ in range(count)]


def write_study(path: Path, name: str, space: Space, trials: Sequence[Sampled], *, is_max: bool) -> None:
    """Bring Optuna's storage file up to what is known; one that says otherwise is made anew."""
    optuna = import_optuna()
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    with _quiet():
        distributions = _distributions(optuna, space)
        for attempt in range(2):
            storage = JournalStorage(JournalFileBackend(str(path)))
            study = optuna.create_study(storage=storage, study_name=name, direction=_direction(is_max), load_if_exists=True)
            if _append(optuna, study, trials, distributions):
                return
            if attempt == 0:
                path.unlink(missing_ok=True)


def _append(optuna: Any, study: Any, trials: Sequence[Sampled], distributions: Mapping[str, Any]) -> bool:
    """Add the trials that the study lacks and tell what has ended; False where it holds others."""
    present = study.get_trials(deepcopy=False)
    if len(present) > len(trials) or any(old.params != dict(new.params) for old, new in zip(present, trials, strict=False)):
        return False
    for number, one in enumerate(trials):
        if number >= len(present):
            study.add_trial(_frozen(optuna, one, distributions))
        elif not present[number].state.is_finished():
            storage, trial_id = study._storage, present[number]._trial_id
            for step, value in one.values.items():
                storage.set_trial_intermediate_value(trial_id, step, value)
            if one.state != "running":
                last = _last(one)
                storage.set_trial_state_values(trial_id, _state(optuna, one), None if last is None else [last])
    return True


def _frozen(optuna: Any, one: Sampled, distributions: Mapping[str, Any]) -> Any:
    is_over = one.state in ("done", "pruned")
    return optuna.trial.create_trial(
        state=_state(optuna, one),
        params=dict(one.params),
        distributions=dict(distributions),
        value=_last(one) if is_over else None,
        intermediate_values=dict(one.values),
    )


def _last(one: Sampled) -> float | None:
    return one.values[max(one.values)] if one.values else None


def _state(optuna: Any, one: Sampled) -> Any:
    states = optuna.trial.TrialState
    return {"running": states.RUNNING, "done": states.COMPLETE, "pruned": states.PRUNED, "failed": states.FAIL}[one.state]


def _distributions(optuna: Any, space: Space) -> dict[str, Any]:
    kinds = optuna.distributions
    found: dict[str, Any] = {}
    for name, one in space.items():
        if isinstance(one, Mapping):
            kind = kinds.IntDistribution if isinstance(one["low"], int) else kinds.FloatDistribution
            found[name] = kind(one["low"], one["high"], log=one["is_log"])
        else:
            found[name] = kinds.CategoricalDistribution(list(one))
    return found


def _direction(is_max: bool) -> str:
    return "maximize" if is_max else "minimize"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that parts of it are experimental
        yield
