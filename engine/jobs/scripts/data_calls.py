"""Which built-in data sets a script asks for, read from its source and its arguments before it runs. Pure.

``paceline.dataset("digits")`` names one. Where the name is computed, the script's own ``--dataset NAME`` does, else the default
that its parser declares. What cannot be read is named by ``--data NAME`` of the launch.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence

LIBRARY = "paceline"
CALLS = ("dataset", "manifest")
"""Functions of the library whose first argument is the name of a data set."""
ARGUMENT = "--dataset"


def asked_data_sets(trees: Iterable[ast.Module], args: Sequence[str]) -> tuple[str, ...]:
    """Names that the modules of a script ask for, in order. ``args``: of the script."""
    modules = list(trees)
    names: list[str] = []
    is_computed = False
    for tree in modules:
        for call in _library_calls(tree):
            argument = call.args[0] if call.args else next((word.value for word in call.keywords if word.arg == "name"), None)
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                names.append(argument.value)
            else:
                is_computed = True
    if is_computed and (name := _given(args) or next(_declared(modules), None)):
        names.append(name)
    return tuple(dict.fromkeys(names))


def _library_calls(tree: ast.Module) -> Iterator[ast.Call]:
    """Calls of the library's functions that take the name of a data set."""
    modules: set[str] = set()
    functions: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.asname or alias.name for alias in node.names if alias.name == LIBRARY}
        elif isinstance(node, ast.ImportFrom) and node.module == LIBRARY and node.level == 0:
            functions |= {alias.asname or alias.name for alias in node.names if alias.name in CALLS}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        is_method = isinstance(called, ast.Attribute) and called.attr in CALLS and _text_of(called.value) in modules
        if is_method or _text_of(called) in functions:
            yield node


def _text_of(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _given(args: Sequence[str]) -> str | None:
    """The value of ``--dataset`` among the arguments of the script; the last one counts."""
    found = None
    for position, word in enumerate(args):
        if word == ARGUMENT and position + 1 < len(args):
            found = args[position + 1]
        elif word.startswith(f"{ARGUMENT}="):
            found = word.partition("=")[2]
    return found


def _declared(trees: Iterable[ast.Module]) -> Iterator[str]:
    """Defaults of ``--dataset`` that a parser declares: ``add_argument("--dataset", default=NAME)``, ``options(dataset=NAME)``."""
    for tree in trees:
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr == "add_argument" and any(_text(argument) == ARGUMENT for argument in node.args):
                values = [word.value for word in node.keywords if word.arg == "default"]
            elif node.func.attr == "options":
                values = [word.value for word in node.keywords if word.arg == "dataset"]
            else:
                continue
            yield from filter(None, map(_text, values))


def _text(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None
