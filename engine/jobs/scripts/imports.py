"""What a script and its project import, read from their sources, to name before the launch what a node lacks. Pure.

Only imports that always run count: those inside ``try`` or under a condition may be optional.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

OWN_PACKAGE = "paceline"
"""It travels to every node."""


def read_modules(files: Mapping[str, bytes], program: bytes, directory: str) -> tuple[list[ast.Module], tuple[str, ...]]:
    """Syntax trees of a program and of its project's modules that it imports, and top-level names of what it needs from outside.

    ``files``: the project; ``directory``: that of the script, where Python looks for its neighbours first. Raises SyntaxError where
    the program itself cannot be read; other files that cannot be read are skipped.
    """
    trees = [ast.parse(program)]
    required: set[str] = set()
    followed: set[str] = set()
    waiting = list(_imports(trees[0]))
    while waiting:
        name = waiting.pop()
        if name in followed:
            continue
        followed.add(name)
        source, is_package = _own_source(files, directory, name)
        if source is None:
            top = name.partition(".")[0]
            if not _is_own(files, directory, top) and top not in sys.stdlib_module_names and top != OWN_PACKAGE:
                required.add(top)
            continue
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError):
            continue
        trees.append(tree)
        waiting += _imports(tree, name if is_package else name.rpartition(".")[0])
    return trees, tuple(sorted(required))


def _imports(tree: ast.Module, package: str = "") -> Iterator[str]:
    """Dotted names that a module of a package imports at its top level, whatever happens."""
    for statement in tree.body:
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            above = package.split(".")
            parts = above[: len(above) - statement.level + 1] if statement.level else []
            base = ".".join([*parts, *filter(None, [statement.module])])
            if base:
                yield base
            yield from (f"{base}.{alias.name}".lstrip(".") for alias in statement.names if base and statement.level)


def _own_source(files: Mapping[str, bytes], directory: str, name: str) -> tuple[bytes | None, bool]:
    """The source of a module of the project, and whether it is a package; None where the project does not hold it."""
    for base in (PurePosixPath(directory), PurePosixPath()):
        path = base.joinpath(*name.split("."))
        for candidate in (f"{path}/__init__.py", f"{path}.py"):
            if candidate in files:
                return files[candidate], candidate.endswith("/__init__.py")
    return None, False


def _is_own(files: Mapping[str, bytes], directory: str, top: str) -> bool:
    """Whether the project holds a module or a package of this name, with or without ``__init__``."""
    folders = {str(PurePosixPath(directory) / top), top}
    return any(name == f"{folder}.py" or name.startswith(f"{folder}/") for folder in folders for name in files)
