"""The arguments of verbs as data: argparse, completion and help are made from them. Imports nothing heavy.

Options of a job come from the table in ``engine/jobs/launch/job_options.py``.
"""

from __future__ import annotations

import argparse
import difflib
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

from paceline.engine.errors import UsageError
from paceline.engine.jobs.launch.job_options import JobOption, OptionKind, options_of

PROGRAM = "paceline"


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises UsageError instead of ending the process. Options are not abbreviated."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **keywords})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As of argparse, and every word must be known."""
        known, rest = super().parse_known_args(args, namespace)
        if rest:
            self._refuse_words(rest)
        return known, rest

    def error(self, message: str) -> NoReturn:
        """Raise UsageError; argparse calls this for every wrong argument."""
        verb = self.prog.removeprefix(PROGRAM).strip()
        where = f"{verb}: " if verb else ""
        raise UsageError(f"{where}{message}", hint=f"see {' '.join(filter(None, (PROGRAM, verb, '--help')))}")

    def _refuse_words(self, words: list[str]) -> NoReturn:
        verb = self.prog.removeprefix(PROGRAM).strip()
        where = f"{verb} knows" if verb else "there is"
        wrong = next((word for word in words if word.startswith("-")), words[0])
        name = wrong.partition("=")[0]
        what = f"no option {name}" if name.startswith("-") else f"no argument {name!r} here"
        hint = did_you_mean(name, self._option_string_actions)
        raise UsageError(f"{where} {what}", hint=hint or f"see {' '.join(filter(None, (PROGRAM, verb, '--help')))}")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``did you mean status?`` where a known word is close to the typed one; empty where none is."""
    words = list(known)
    close = difflib.get_close_matches(word.lower(), words, n=1, cutoff=0.6) or [
        one for one in words if len(word) > 2 and one.startswith(word)
    ]
    return f"did you mean {close[0]}?" if close else ""


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a verb: an option where ``name`` starts with dashes, else a positional argument."""

    name: str
    help: str
    metavar: str = ""
    """Name of the value in the help; completion offers the session's values by it. Empty: a flag, without a value."""
    read: Callable[[str], Any] = str
    """Converts the text. Raises argparse.ArgumentTypeError."""
    _: KW_ONLY
    default: Any = None
    nargs: Literal["?", "*", "+"] | None = None
    """Of a positional argument: optional, or any number of values."""
    is_repeatable: bool = False
    """Whether the option may be given several times; its value is a list."""
    choices: tuple[str, ...] = ()
    """Values that completion offers."""
    is_strict: bool = False
    """Whether any value outside ``choices`` is refused."""
    dest: str = ""
    """Name in the namespace where it differs from that of the argument."""
    group: str = ""
    """Options of one group exclude each other."""

    @property
    def is_option(self) -> bool:
        """Whether it is named by a word with dashes."""
        return self.name.startswith("-")

    @property
    def has_value(self) -> bool:
        """Whether a value follows it."""
        return bool(self.metavar)

    @property
    def is_required(self) -> bool:
        """Whether the verb is refused without it."""
        return not self.is_option and self.nargs in (None, "+")

    @property
    def key(self) -> str:
        """Its name in the namespace."""
        return self.dest or self.name.lstrip("-").replace("-", "_")


def add_arguments(parser: argparse.ArgumentParser, arguments: Iterable[Argument], without_defaults: bool = False) -> None:
    """Declare arguments to argparse. ``without_defaults``: the namespace then holds what was typed, and nothing else."""
    groups: dict[str, Any] = {"": parser}
    for argument in arguments:
        if argument.group not in groups:
            groups[argument.group] = parser.add_mutually_exclusive_group()
        groups[argument.group].add_argument(argument.name, **_keywords(argument, without_defaults))


def _keywords(argument: Argument, without_defaults: bool) -> dict[str, Any]:
    """The arguments of ``add_argument``."""
    keywords: dict[str, Any] = {"help": argument.help.replace("%", "%%"), "default": argument.default}
    if argument.is_option:
        keywords["dest"] = argument.key
    if argument.nargs is not None:
        keywords["nargs"] = argument.nargs
    if argument.has_value:
        keywords |= {"metavar": argument.metavar, "type": argument.read}
        keywords |= {"choices": argument.choices} if argument.is_strict else {}
        keywords |= {"action": "append", "default": []} if argument.is_repeatable else {}
    else:
        keywords |= {"action": "store_true", "default": False}
    if without_defaults:
        keywords["default"] = argparse.SUPPRESS
    return keywords


def job_arguments(verb: str) -> tuple[Argument, ...]:
    """The options of a job that a verb takes, from the table of job options."""
    return tuple(_argument(option) for option in options_of(verb))


def _argument(option: JobOption) -> Argument:
    return Argument(
        "--" + option.name.replace("_", "-"),
        option.help,
        option.metavar,
        _READERS.get(option.kind, str),
        default=option.default_value,
        choices=option.choices,
        is_strict=option.kind is OptionKind.STRICT_CHOICE,
        is_repeatable=option.kind is OptionKind.DATA_SETS,
        group=option.group,
    )


# Values -------------------------------------------------------------------------------------------------------------------------


def positive(text: str) -> int:
    """An integer of at least 1."""
    value = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, with nine digits at most, got {text[:40]!r}")
    return value


def seconds(text: str) -> float:
    """A number of at least 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"expected a number, 0 or more, got {text[:40]!r}")
    return value


def fraction(text: str) -> float:
    """A part of a whole, as ``5%`` or ``0.05``."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = math.nan
    if not 0 <= value < 100:
        raise argparse.ArgumentTypeError(f'expected a part such as "5%" or 0.05, got {text[:40]!r}')
    return value


def seed(text: str) -> int:
    """An integer of 63 bits, which every random generator takes."""
    value = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else -1
    if not 0 <= value < 1 << 63:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to {(1 << 63) - 1}, got {text!r}")
    return value


def terminal_size(text: str) -> tuple[int, int]:
    """Columns and lines, as ``132x42``."""
    columns, _, lines = text.partition("x")
    numbers = [int(part) if part.isascii() and part.isdecimal() and len(part) < 4 else 0 for part in (columns, lines)]
    if not (40 <= numbers[0] <= 400 and 10 <= numbers[1] <= 200):
        raise argparse.ArgumentTypeError(f"expected columns and lines such as 132x42, at least 40x10, got {text[:40]!r}")
    return numbers[0], numbers[1]


def moment(text: str) -> float:
    """A moment of a recording in seconds, from ``90s``, ``1:30`` or ``end``."""
    from paceline.engine.errors import UsageError
    from paceline.engine.telemetry.moments import parse_moment

    try:
        return parse_moment(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def since(text: str) -> float:
    """A moment in the past, seconds since 1970, from ``10m``, ``14:02`` or a date."""
    import time

    from paceline.engine.jobs.logs.since import parse_since

    try:
        return parse_since(text, time.time())
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def bandwidth(text: str) -> float:
    """Bytes per second, in the notation of nodes.toml."""
    return _link_value("bandwidth", text)


def latency(text: str) -> float:
    """Seconds, in the notation of nodes.toml."""
    return _link_value("latency", text)


def memory_size(text: str) -> int:
    """Bytes, from ``600MB`` or ``12GiB``."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)(i?)B?\s*", text, re.IGNORECASE)
    value = 0
    if match is not None:
        base = 1024 if match[3] else 1000
        value = round(float(match[1]) * base ** " kmgt".index(match[2].lower() or " "))
    if not 0 < value < 1 << 60:
        raise argparse.ArgumentTypeError(f'expected a size such as "600MB" or "12GiB", got {text[:40]!r}')
    return value


def _link_value(key: str, text: str) -> float:
    from paceline.engine.inventory.values import LINK_KEYS, InvalidValue

    try:
        return float(LINK_KEYS[key](text))
    except InvalidValue as error:
        raise argparse.ArgumentTypeError(f"{error}, got {text[:40]!r}") from None


_READERS: dict[OptionKind, Callable[[str], Any]] = {OptionKind.COUNT: positive, OptionKind.SEED: seed}

# Arguments that several verbs take ------------------------------------------------------------------------------------------------

_JOB_HELP = "a job file in TOML with such options, or a script, SCRIPT.py or -m MODULE, with its own arguments"
JOB_FILE = Argument("job", _JOB_HELP, "JOB", Path, nargs="?")
RUN = Argument("run_id", "the run, as paceline jobs names it", "RUN")


def experiment_arguments(verb: str) -> tuple[Argument, ...]:
    """The options that every experiment takes."""
    return (
        Argument("--devices", "all, or a set such as lab[1-3],atlas:0 (default: all)", "SET", default="all"),
        Argument("--seed", "seed of the first round, or of the trials (default: 0)", "N", seed, default=0),
        Argument("--share", "start although others use the devices"),
        Argument("--name", f"a name for the experiment (default: {verb} and the time)", "NAME"),
        Argument("--resume", "go on with this experiment, by the plan it began with", "NAME"),
    )
