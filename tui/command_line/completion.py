"""Completion of a line at the ``:`` prompt: verbs, their options, values of the session, and job files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .arguments import Argument
from .commands import VERBS, Verb, verb_of

Values = Mapping[str, Sequence[str]]
"""Values of the session, by the name that the help gives a value: RUN, SET (nodes), JOB (files)."""


def complete_line(line: str, values: Values, words: Iterable[str] = ()) -> list[str]:
    """Whole lines that begin with ``line``, best first. ``words``: first words beside verbs, such as names of screens."""
    typed = line.lstrip().split(" ")
    if len(typed) == 1:
        return sorted(word for word in (*VERBS, *words) if word.startswith(typed[0]) and word != typed[0])
    verb = verb_of(typed[0])
    if verb is None:
        return []
    *before, part = typed
    stem = " ".join(before)
    return [f"{stem} {word}" for word in _next_words(verb, before[1:], part, values) if word.startswith(part) and word != part]


def job_files(line: str) -> list[str]:
    """TOML files, except nodes.toml, in the directory of the last word of a line; empty where the verb takes no job file."""
    verb = verb_of(line.lstrip().partition(" ")[0])
    if verb is None or not any(argument.key == "job" for argument in verb.arguments):
        return []
    directory, slash, _ = line.rpartition(" ")[2].rpartition("/")
    try:
        names = sorted(path.name for path in Path(directory or slash or ".").glob("*.toml") if path.name != "nodes.toml")
    except (OSError, ValueError):
        return []
    return [directory + slash + name for name in names if name.isprintable() and " " not in name]


def _next_words(verb: Verb, before: Sequence[str], part: str, values: Values) -> list[str]:
    """Candidates for the word after ``before``: values of an option, names of options, or values of a positional argument."""
    options = {argument.name: argument for argument in verb.arguments if argument.is_option}
    option = options.get(before[-1]) if before else None
    if option is not None and option.has_value:
        return _values(option, part, values)
    if part.startswith("-"):
        return sorted(name for name in options if name not in before)
    positionals = [argument for argument in verb.arguments if not argument.is_option]
    given = sum(1 for i, word in enumerate(before) if not word.startswith("-") and not _is_value(before, i, options))
    if given < len(positionals):
        return _values(positionals[given], part, values)
    return _values(positionals[-1], part, values) if positionals and positionals[-1].nargs in ("*", "+") else []


def _is_value(before: Sequence[str], index: int, options: Mapping[str, Argument]) -> bool:
    """Whether a word is the value of the option before it."""
    option = options.get(before[index - 1]) if index else None
    return option is not None and option.has_value


def _values(argument: Argument, part: str, values: Values) -> list[str]:
    """Values of an argument, each appended to the values that ``part`` already lists with commas."""
    known = argument.choices or values.get(argument.metavar, ())
    listed, comma, _ = part.rpartition(",")
    return [listed + comma + word for word in known if word not in listed.split(",")]
