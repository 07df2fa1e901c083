"""The script of a command line: ``train [our options] SCRIPT.py [its options]``, or ``-m MODULE`` in its place, as torchrun has it.

The words before the script are ours, and all words after it belong to the script. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from paceline.engine.errors import UsageError
from paceline.engine.specs import ScriptSpec

from .arguments import Argument

MODULE_OPTION = "-m"
SCRIPT_SUFFIX = ".py"
"""Of a script; another word in its place is a job file."""


def script_of_file(job: Mapping[str, Any]) -> ScriptSpec | None:
    """The script that the values of a job file name; None where they name none."""
    if "module" in job:
        return ScriptSpec(job["module"], job.get("args", ()), is_module=True)
    return ScriptSpec(job["script"], job.get("args", ())) if "script" in job else None


def split_script(arguments: Iterable[Argument], words: Sequence[str]) -> tuple[list[str], ScriptSpec | None]:
    """The words before a script, and the script with its own arguments; None where the first positional word names none.

    Raises UsageError where ``-m`` names no module.
    """
    with_value = {argument.name for argument in arguments if argument.is_option and argument.has_value}
    position = 0
    while position < len(words):
        word = words[position]
        if word == MODULE_OPTION:
            if position + 1 == len(words) or not all(part.isidentifier() for part in words[position + 1].split(".")):
                raise UsageError("-m needs the name of a module", hint="such as -m package.train")
            return list(words[:position]), ScriptSpec(words[position + 1], tuple(words[position + 2 :]), is_module=True)
        if not word.startswith("-"):
            if not word.endswith(SCRIPT_SUFFIX):
                return list(words), None
            return list(words[:position]), ScriptSpec(word, tuple(words[position + 1 :]))
        position += 2 if word in with_value else 1
    return list(words), None
