"""How a person names a run: its id, the end of its id, the name it was given, or ``last``. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from ...errors import UsageError
from ...states import FINAL
from ...store.state import WAITING_JOB_ID

LAST_RUN = "last"
"""The run that was started last."""
MIN_ENDING_CHARS = 4
"""Characters of the end of an id that name a run, if no other run ends in them."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_ID = re.compile(r"[0-9]{8}-[0-9]{4}-[a-z0-9]{6}")


class KnownRun(NamedTuple):
    """One run that a person may mean."""

    run_id: str
    name: str
    state: str


def is_run_name(text: str) -> bool:
    """Whether a run may have this name: no word that means another run."""
    return bool(_NAME.fullmatch(text)) and not _ID.fullmatch(text) and text not in (LAST_RUN, WAITING_JOB_ID)


def is_whole_id(text: str) -> bool:
    """Whether this is a whole run id, which names itself."""
    return bool(_ID.fullmatch(text))


def check_run_name(text: str) -> str:
    """The name. Raises UsageError where no run may have it."""
    if not is_run_name(text):
        hint = f"letters, digits, dots, dashes and underscores, 40 at most; not {LAST_RUN} or {WAITING_JOB_ID}"
        raise UsageError(f"no run can be named {text!r}", hint=hint)
    return text


def find_run(runs: Sequence[KnownRun], text: str) -> str:
    """The id of the run that ``text`` names: by its id, else its name, else the end of its id. ``runs``: newest first.

    Of several runs with one name the active one is meant, else the newest. Raises UsageError where none is meant, or several are.
    """
    if any(run.run_id == text for run in runs):
        return text
    if text == LAST_RUN and runs:
        return runs[0].run_id
    if named := [run for run in runs if run.name and run.name == text]:
        active = [run for run in named if run.state not in FINAL]
        return _only_one(active, text) if active else named[0].run_id
    if len(text) >= MIN_ENDING_CHARS and (ending := [run for run in runs if run.run_id.endswith(text)]):
        return _only_one(ending, text)
    raise UsageError(f"no run {text!r}", hint="paceline jobs lists all runs")


def _only_one(runs: Collection[KnownRun], text: str) -> str:
    if len(runs) > 1:
        raise UsageError(f"{text!r} may be any of {len(runs)} runs", hint=f"one of {', '.join(run.run_id for run in runs)}")
    return next(iter(runs)).run_id
