"""What README, guide, help and hints promise: every command, option, key and screen that they name exists."""

from __future__ import annotations

import ast
import functools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from paceline.engine.errors import UsageError
from paceline.engine.jobs.logs.since import parse_since
from paceline.tui.app import every_binding
from paceline.tui.command_line.cli import GENERAL_FLAGS, OPTIONS_WITH_VALUE, _split_words, build_parser
from paceline.tui.command_line.commands import VERBS, parse, verb_of
from paceline.tui.command_line.completion import complete_line
from paceline.tui.filter import parse_filter
from paceline.tui.prompt_router import SCREEN_NAMES
from paceline.tui.theme import THEMES

ROOT = Path(__file__).parents[3]
DOCUMENTS = [ROOT / name for name in ("README.md", "SECURITY.md", "docs/guide.md", "docs/json.md", "docs/scripts.md")]
GENERAL_OPTIONS = {*GENERAL_FLAGS, *OPTIONS_WITH_VALUE, "--help", "-h", "--version"}
OPTIONS_OF_OTHERS = {"--snapshot-update", "--dist", "--group", "--nnodes", "--standalone", "--nproc-per-node", "--lr", "--root"}
"""Options of pytest, torchrun and scripts that the documents show."""
EVERY_OPTION = GENERAL_OPTIONS | {argument.name for verb in VERBS.values() for argument in verb.arguments if argument.is_option}
NO_VERBS = {"runner", "needs", "input"}
"""Words after the name of the program where it is the subject of a sentence."""


def split_blocks(text: str) -> tuple[str, str]:
    """The lines inside of fences, and those outside."""
    parts: tuple[list[str], list[str]] = [], []
    is_outside = True
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            is_outside = not is_outside
        else:
            parts[is_outside].append(line)
    return "\n".join(parts[0]), "\n".join(parts[1])


def commands_of(text: str) -> Iterator[str]:
    """Commands that begin with ``paceline``: lines of code blocks, and code in sentences, with what follows it after a comma."""
    blocks, prose = split_blocks(text)
    for line in blocks.splitlines():
        command = re.split(r"\s#|\s\|\s", line)[0].strip().removeprefix("$ ").removeprefix(".venv/bin/")
        if command.startswith("paceline "):
            yield command
    for code in re.findall(r"`([^`\n]+)`", prose):
        if code.removeprefix(".venv/bin/").startswith("paceline "):
            yield code.removeprefix(".venv/bin/")


def words_of(command: str) -> list[str]:
    """The words after ``paceline``, without optional parts and with one of several verbs."""
    words = shlex.split(
        re.sub(r"[\[\]…]|\.\.\.", " ", command.split(" > ")[0].replace("lab[1-4]", "lab1").replace("lab[1-3]", "lab1"))
    )
    return ["status" if word == "VERB" else word for word in words[1:]]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_of_a_document_is_understood(path: Path) -> None:
    refused = []
    for command in commands_of(path.read_text(encoding="utf-8")):
        try:
            words, _ = _split_words(words_of(command))
            build_parser().parse_args([word.replace("PID", "4711").replace("DAYS", "30") for word in words])
        except UsageError as error:
            if "required" not in str(error):  # named without its words, as in a list of verbs
                refused.append(f"{command}: {error}")
        except SystemExit:  # --help
            continue
    assert refused == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_option_of_a_document_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    codes = [*re.findall(r"```.*?```", text, re.DOTALL), *re.findall(r"`[^`\n]+`", text)]
    ours = [code for code in codes if not re.search(r"pytest|torchrun|\bgit\b|ssh|docker|kubectl|sbatch|pip ", code)]
    named = {name for code in ours for name in re.findall(r"(?<![\w-])--[a-z][a-z-]*", code)}
    assert named - EVERY_OPTION - OPTIONS_OF_OTHERS == set()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_line_for_the_prompt_that_a_document_names_is_understood(path: Path) -> None:
    wrong = []
    for typed in re.findall(r"`:([a-z][^`\n]*)`", path.read_text(encoding="utf-8")):
        word, *rest = typed.split()
        if word not in (*SCREEN_NAMES, "theme", "help", "tour", "q"):
            try:
                parse(typed.replace("PID", "4711"))
            except UsageError as error:
                if "required" not in str(error):
                    wrong.append(f"{typed}: {error}")
        elif word == "theme" and rest and rest[0] not in (*THEMES, "NAME"):
            wrong.append(f"{typed}: no such theme")
    assert wrong == []


def test_every_filter_that_the_guide_names_is_one() -> None:
    text = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    part = text[text.index("`/` filters while you type") : text.index("`Enter` on an alert")]
    filters = [code for code in re.findall(r"`([^`\n]+)`", part) if re.search(r"[:<>=!&|]", code) and not code.endswith(":")]
    assert len(filters) >= 8
    for typed in filters:
        parse_filter(typed)


def test_every_time_of_the_log_that_the_guide_names_is_one() -> None:
    text = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    since = re.search(r"`s` lines since a time such as `([^`]+)` or `([^`]+)`", text)
    assert since is not None
    assert all(parse_since(typed, 1e9) <= 1e9 for typed in since.groups())


def test_every_key_that_a_screen_names_in_a_sentence_is_bound_there() -> None:
    """``C stops waiting``, ``5 shows the results``, ``R resumes it``: a capital letter or a digit that begins what it does."""
    bound = {key for binding in every_binding() for key in binding.key.split(",")}
    says = re.compile(r"""[ "(]([A-Zfxlnow1-9]) (?:stops|shows|resumes|cancels|follows|hides|clears|searches)\b""")
    paths = [path for room in ("views", "screens") for path in sorted((ROOT / "tui" / room).rglob("*.py"))]
    named = {key for path in paths for key in says.findall(path.read_text(encoding="utf-8"))}
    assert {"C", "R", "5", "f", "x"} <= named
    assert named <= bound


@functools.cache
def texts_of_source() -> list[tuple[str, str]]:
    """Every text of the source for people, read once."""
    return list(_texts_of_source())


def _texts_of_source() -> Iterator[tuple[str, str]]:
    """Every text of the source for people: place and text, without docstrings; what an f-string inserts becomes X."""
    for path in sorted([*(ROOT / "engine").rglob("*.py"), *(ROOT / "tui").rglob("*.py")]):
        source = path.read_text(encoding="utf-8")
        if "--" not in source and "paceline " not in source:
            continue
        tree = ast.parse(source)
        holders = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        skipped = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, holders) and node.body and isinstance(node.body[0], ast.Expr)
        }
        skipped |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.JoinedStr):
                skipped |= {id(part) for part in node.values}
                yield (
                    where,
                    "".join(
                        part.value if isinstance(part, ast.Constant) and isinstance(part.value, str) else "X"
                        for part in node.values
                    ),
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
                yield where, node.value


OTHER_PROGRAMS = re.compile(
    r"torchrun|--logdir|ssh|systemd|--local-addr|--nnodes|git |pip |^--|nvidia|loginctl|sudo|python|--lr|kubectl"
    r"|podman|mlflow|wandb|squeue|Invalid --time"
)
"""Texts that are arguments of other programs."""


def test_every_command_that_a_hint_names_exists() -> None:
    wrong = []
    for where, text in texts_of_source():
        for word, words in re.findall(r"(?<!inet )\bpaceline ((?:--[a-z-]+ )*[a-z]+)\b((?: (?:--[a-z-]+|[A-Z][A-Z]*))*)", text):
            name = word.split()[-1]
            verb = verb_of(name)
            if verb is None:
                wrong += [f"{where}: {text}"] * (name not in NO_VERBS)
                continue
            options = {argument.name for argument in verb.arguments} | GENERAL_OPTIONS
            wrong += [f"{where}: {text}" for option in words.split() if option.startswith("--") and option not in options]
    assert wrong == []


def test_every_option_that_a_hint_names_exists() -> None:
    wrong = [
        f"{where}: {option}"
        for where, text in texts_of_source()
        if " " in text and not OTHER_PROGRAMS.search(text)
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)
        if option not in EVERY_OPTION
    ]
    assert wrong == []


def test_every_key_that_the_guide_names_is_bound() -> None:
    text = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    part = text[text.index("## Look at the fleet") : text.index("## Train and compare")]
    keys = {key for binding in every_binding() for key in binding.key.split(",")}
    labels = {"space": "Space", "enter": "Enter", "escape": "Esc", "plus": "+", "slash": "/", "colon": ":", "question_mark": "?"}
    known = {labels.get(key, key) for key in keys}
    named = set(re.findall(r"`([A-Za-z/+?:]|Space|Enter|Esc)`", part))
    assert named, "the guide names keys"
    assert named <= known


@pytest.mark.parametrize("name", VERBS)
def test_the_help_of_a_verb_names_every_option_and_completion_offers_it(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args([name, "--help"])
    told = capsys.readouterr().out
    options = [argument.name for argument in VERBS[name].arguments if argument.is_option]
    assert all(option in told for option in options)
    assert complete_line(f"{name} --", {}) == [f"{name} {option}" for option in sorted(options) if option.startswith("--")]
