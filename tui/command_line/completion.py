"""What a line at the ``:`` prompt may become: verbs, their options, values that the session knows, and job files."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from paceline.engine.specs import POLICIES
from paceline.engine.workloads import WORKLOADS

from .commands import VERBS, Parser, Verb, verb_of

Values = Mapping[str, Sequence[str]]
"""What the session knows, by the name that a verb's help gives a value: RUN, SET (nodes), JOB (files)."""
_FIXED: dict[str, Sequence[str]] = {"W": tuple(WORKLOADS), "P": POLICIES, "A,B": POLICIES}


def complete_line(line: str, values: Values, places: Iterable[str] = ()) -> list[str]:
    """Whole lines that begin with ``line``, best first. ``places``: words beside verbs, such as names of screens."""
    words = line.lstrip().split(" ")
    if len(words) == 1:
        return sorted(word for word in (*VERBS, *places) if word.startswith(words[0]) and word != words[0])
    verb = verb_of(words[0])
    if verb is None:
        return []
    *before, part = words
    stem = " ".join(before)
    return [f"{stem} {word}" for word in _next_words(verb, before[1:], part, values) if word.startswith(part) and word != part]


def job_files(line: str) -> list[str]:
    """TOML files in the directory that the last word of a line begins to name, but nodes.toml; only where a verb takes a job."""
    verb = verb_of(line.lstrip().partition(" ")[0])
    if verb is None or not any(action.dest == "job" for action in _actions(verb)):
        return []
    directory, slash, _ = line.rpartition(" ")[2].rpartition("/")
    try:
        found = sorted(path.name for path in Path(directory or slash or ".").glob("*.toml") if path.name != "nodes.toml")
    except (OSError, ValueError):
        return []
    return [directory + slash + name for name in found if name.isprintable() and " " not in name]


def _next_words(verb: Verb, before: Sequence[str], part: str, values: Values) -> list[str]:
    actions = _actions(verb)
    options = {name: action for action in actions for name in action.option_strings}
    asked = options.get(before[-1]) if before else None
    if asked is not None and asked.nargs != 0:
        return _values(asked, part, values)
    if part.startswith("-"):
        given = {id(options[word]) for word in before if word in options}
        return sorted(name for name, action in options.items() if id(action) not in given)
    positionals = [action for action in actions if not action.option_strings]
    taken = sum(1 for i, word in enumerate(before) if not word.startswith("-") and not _is_value(before, i, options))
    if taken < len(positionals):
        return _values(positionals[taken], part, values)
    return _values(positionals[-1], part, values) if positionals and positionals[-1].nargs in ("*", "+") else []


def _actions(verb: Verb) -> list[argparse.Action]:
    parser = Parser(prog=verb.name, add_help=False)
    verb.arguments(parser)
    return parser._actions


def _is_value(before: Sequence[str], place: int, options: Mapping[str, argparse.Action]) -> bool:
    """Whether a word belongs to the option before it."""
    asking = options.get(before[place - 1]) if place else None
    return asking is not None and asking.nargs != 0


def _values(action: argparse.Action, part: str, values: Values) -> list[str]:
    name = action.metavar if isinstance(action.metavar, str) else ""
    known = [str(choice) for choice in action.choices] if action.choices is not None else [*values.get(name, _FIXED.get(name, ()))]
    done, comma, _ = part.rpartition(",")
    return [done + comma + word for word in known if word not in done.split(",")]
