"""The frame holds: what is imported at start, what is packaged, pinned, documented and promised in the README."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import product
from pathlib import Path

import pytest
from paceline.engine.ssh.bundle import NODE_MODULES, NODE_PACKAGES
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.places import CHECKOUT
from tests.support.screens.documents import documented, paths

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
MAX_FILES = 15
"""Python files of one folder, without ``__init__.py`` and ``conftest.py``."""
MAX_POSITIONAL = 6
"""Parameters of one function that can be given by place."""


@pytest.mark.parametrize("module", ["paceline.tui.command_line.cli", "paceline.tui.command_line.batch"])
def test_the_headless_start_imports_neither_a_screen_nor_what_is_heavy(module: str) -> None:
    heavy = {"textual", "torch", "pandas", "sklearn", "yfinance"}
    program = f"import sys, {module}; print(sorted({heavy!r} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_json_md_names_every_field_of_status(tmp_path: Path) -> None:
    node = '[[node]]\nname = "demo1"\nkind = "embedded"\ndevices = [{ name = "A", speed = 1.0, memory = "1GiB" }]\n'
    (tmp_path / "nodes.toml").write_text(node)
    command = [sys.executable, "-m", "paceline.tui", "--batch", "--json", "status"]
    ended = subprocess.run(command, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    assert paths(json.loads(ended.stdout)) == documented("status")


def test_every_folder_with_code_is_packaged() -> None:
    folders = {
        "paceline." + ".".join(init.parent.relative_to(CHECKOUT).parts)
        for top in ("engine", "tui")
        for init in (CHECKOUT / top).rglob("__init__.py")
    }
    # The library's one file is the package around them all.
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == {"paceline"} | folders - {"paceline.engine.script.library"}


def test_every_module_says_in_its_first_line_what_it_is_for() -> None:
    for path in [
        *(CHECKOUT / "engine").rglob("*.py"),
        *(CHECKOUT / "tui").rglob("*.py"),
        *(CHECKOUT / "tests").rglob("*.py"),
        *(CHECKOUT / "benchmarks").rglob("*.py"),
    ]:
        text = path.read_text()
        assert re.match(r'r?"""\S', text) or (not text and path.name == "__init__.py"), f"{path} starts without a sentence"


def test_every_design_page_fits_on_two_screens() -> None:
    pages = list((CHECKOUT / "docs/design").glob("*.md"))
    assert pages
    for page in pages:
        assert len(page.read_text().splitlines()) <= 60, page.name


def test_the_readme_starts_with_the_two_commands_and_its_links_lead_somewhere() -> None:
    text = (CHECKOUT / "README.md").read_text()
    assert "make demo" in text
    assert "make test" in text
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (CHECKOUT / target).exists(), target


def test_make_help_names_every_target() -> None:
    text = (CHECKOUT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert phony is not None
    targets = set(phony[1].split())
    told = subprocess.run(["make", "-C", str(CHECKOUT), "help"], capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^  make (\w+) ", told, re.MULTILINE)) == targets


def pins() -> dict[str, str]:
    lines = [line for line in (CHECKOUT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line) for line in lines)
    return {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines}


def test_constraints_pin_all_that_an_installation_can_bring() -> None:
    """A requirement is pinned by us, or exactly by the package that asks for it, as torch does with its CUDA libraries."""
    pinned = pins()
    extras = {"training", "data", "dev"}
    open_names = [("paceline", frozenset(extras))]
    seen: set[tuple[str, frozenset[str]]] = set()
    while open_names:
        name, wanted = open_names.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        try:
            lines = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for requirement in map(Requirement, lines):
            contexts = [{"extra": extra} for extra in (wanted or {""})]
            if requirement.marker and not any(requirement.marker.evaluate(context) for context in contexts):
                continue
            needed = canonicalize_name(requirement.name)
            is_exact = any(part.operator == "==" and "*" not in part.version for part in requirement.specifier)
            assert needed in pinned or is_exact, f"{name} asks for {needed}, which constraints.txt does not pin"
            if needed in pinned:
                assert requirement.specifier.contains(pinned[needed], prereleases=True), f"{name} refuses the pinned {needed}"
                open_names.append((needed, frozenset(requirement.extras)))


def test_nothing_pinned_is_a_local_build_and_torchvision_stays_out() -> None:
    assert "torchvision" not in pins()  # it breaks other packages beside a torch of another build
    assert pins()["torch"] == "2.13.0"


# What runs where ----------------------------------------------------------------------------------------------------------------


def contract(name: str) -> dict[str, list[str]]:
    """An import contract of pyproject.toml, by the start of its name."""
    (found,) = [entry for entry in PROJECT["tool"]["importlinter"]["contracts"] if entry["name"].startswith(name)]
    return dict(found)


def engine_parts() -> tuple[set[str], set[str]]:
    """Modules and packages of ``engine``."""
    engine = CHECKOUT / "engine"
    return {path.stem for path in engine.glob("*.py")}, {init.parent.name for init in engine.glob("*/__init__.py")}


def parts(*contract_modules: str) -> set[str]:
    """Parts of the engine that a contract names."""
    return {name.removeprefix("paceline.engine.") for name in contract_modules if name.startswith("paceline.engine.")}


def expanded(glob: str) -> set[str]:
    """``engine/{a,b}.py`` without its braces."""
    pieces = [piece.split(",") for piece in re.split(r"[{}]", glob)]
    return {"".join(choice) for choice in product(*pieces)}


def test_the_list_of_what_runs_on_a_node_names_parts_that_exist() -> None:
    modules, packages = engine_parts()
    assert set(NODE_MODULES) <= modules
    assert set(NODE_PACKAGES) <= packages


def test_what_runs_on_a_node_is_linted_for_the_python_of_nodes() -> None:
    versions = PROJECT["tool"]["ruff"]["per-file-target-version"]
    linted = set().union(*(expanded(glob) for glob, version in versions.items() if version == "py310"))
    assert linted == {f"engine/{name}.py" for name in NODE_MODULES} | {f"engine/{name}/**" for name in NODE_PACKAGES}


def test_import_contracts_keep_node_and_centre_apart_by_the_same_list() -> None:
    modules, packages = engine_parts()
    at_the_centre = (modules | packages) - set(NODE_MODULES) - set(NODE_PACKAGES)
    node = contract("What runs on a node never reaches")
    assert parts(*node["source_modules"]) == set(NODE_PACKAGES)
    assert parts(*node["forbidden_modules"]) == at_the_centre
    shared = contract("Centre and agent share the protocol")
    assert parts(*shared["source_modules"]) == at_the_centre
    assert parts(*shared["forbidden_modules"]) == set(NODE_PACKAGES) - {
        "balancer",
        "protocol",
        "slurm",
        "workloads",
    }  # they run on both sides
    vocabulary = contract("The vocabulary imports")
    words = set(NODE_MODULES) | {"workloads"}
    assert parts(*vocabulary["source_modules"]) == words - {"__init__"}
    assert parts(*vocabulary["forbidden_modules"]) == (modules | packages) - words


# Size and names -----------------------------------------------------------------------------------------------------------------


@cache
def modules_of(*tops: str) -> tuple[tuple[Path, ast.Module], ...]:
    """Modules below some folders of the checkout, parsed once for all tests."""
    paths = [path for top in tops for path in sorted((CHECKOUT / top).rglob("*.py"))]
    return tuple((path.relative_to(CHECKOUT), ast.parse(path.read_text())) for path in paths)


def statements(block: ast.AST) -> Iterator[ast.AST]:
    """All statements of a module, also those inside others. ``ast.walk`` would visit ten times as many nodes: expressions too."""
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        for statement in getattr(block, field, ()):
            yield statement
            yield from statements(statement)


def none_of(faults: Iterable[str]) -> None:
    """Fail with a line for each fault."""
    lines = list(faults)
    assert not lines, "\n" + "\n".join(lines)


def imports() -> dict[str, set[str]]:
    """The files that each file of engine and tui imports, those for type checking only included; packages themselves left out."""
    trees = {path.as_posix(): tree for path, tree in modules_of("engine", "tui")}
    arrows: dict[str, set[str]] = {path: set() for path in trees}
    for path, tree in trees.items():
        for node in statements(tree):
            if not isinstance(node, ast.ImportFrom) or not (node.level or (node.module or "").startswith("paceline.")):
                continue
            base = path.removesuffix(".py").split("/")[: -node.level] if node.level else []
            base += [part for part in (node.module or "").split(".") if part and (part != "paceline" or node.level)]
            for alias in node.names:
                files = {f"{'/'.join([*base, alias.name])}.py", f"{'/'.join(base)}.py"} & trees.keys()
                arrows[path] |= files - {path}
    return arrows


def circle(arrows: dict[str, set[str]]) -> list[str]:
    """Nodes of a graph that lie on a circle, or lead from one circle to another."""
    left = {node: set(targets) for node, targets in arrows.items()}
    while ends := [node for node, targets in left.items() if not targets & left.keys()]:
        for node in ends:
            del left[node]
    return sorted(left)


def test_no_imports_form_a_circle_between_files_or_between_rooms() -> None:
    """Checked between files, and in every folder between what stands in it: files, and sub-folders as a whole."""
    arrows = imports()
    none_of(f"files: {path}" for path in circle(arrows))
    for folder in sorted({parent.as_posix() for path in arrows for parent in Path(path).parents} - {"."}):
        rooms: dict[str, set[str]] = defaultdict(set)
        for path, targets in arrows.items():
            if path.startswith(f"{folder}/"):
                room = path[len(folder) + 1 :].split("/")[0]
                rooms[room] |= {target[len(folder) + 1 :].split("/")[0] for target in targets if target.startswith(f"{folder}/")}
                rooms[room].discard(room)
        none_of(f"{folder}: {room}" for room in circle(rooms))


def test_every_path_that_the_documents_name_exists() -> None:
    pages = [*(CHECKOUT / "docs").rglob("*.md"), CHECKOUT / "README.md"]
    named = re.compile(r"\b(?:engine|tui|tests|benchmarks|docs)/[\w./-]*\w\.(?:py|md|toml|tcss)\b")
    none_of(
        f"{page.relative_to(CHECKOUT)}: {path}"
        for page in pages
        for path in named.findall(page.read_text())
        if not (CHECKOUT / path).exists()
    )


@pytest.mark.parametrize("top", ["engine", "tui", "tests", "benchmarks"])
def test_no_folder_holds_more_files_than_a_person_can_survey(top: str) -> None:
    counts: dict[str, int] = defaultdict(int)
    for path in (CHECKOUT / top).rglob("*.py"):
        counts[str(path.parent.relative_to(CHECKOUT))] += path.name not in ("__init__.py", "conftest.py")
    none_of(f"{folder}: {count}" for folder, count in counts.items() if count > MAX_FILES)


def test_no_two_public_classes_share_a_name() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path, tree in modules_of("engine", "tui"):
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path))
    none_of(f"{name}: {', '.join(paths)}" for name, paths in places.items() if len(paths) > 1)


def test_no_constant_means_something_else_in_another_module() -> None:
    """Equal names of two modules have equal values: a bare word such as LIMIT needs its subject."""
    values: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path, tree in modules_of("engine", "tui"):
        for node in tree.body:
            if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
                continue
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name) and re.fullmatch(r"[A-Z][A-Z0-9_]+", target.id):
                    values[target.id][ast.unparse(node.value)].append(str(path))
    none_of(
        f"{name}: " + ", ".join(f"{value[:40]} in {' '.join(paths)}" for value, paths in by_value.items())
        for name, by_value in values.items()
        if len(by_value) > 1
    )


def test_no_function_takes_more_than_six_parameters_by_place() -> None:
    long = []
    for path, tree in modules_of("engine", "tui"):
        for node in statements(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
                if len([name for name in names if name not in ("self", "cls")]) > MAX_POSITIONAL:
                    long.append(f"{path}:{node.lineno} {node.name}({', '.join(names)})")
    none_of(long)


def test_no_test_file_imports_what_every_worker_would_pay_for() -> None:
    """Each worker collects all files: an import of seconds belongs into the test, or in ``pytest.importorskip`` there."""
    heavy = re.compile(r"^(?:import|from) (?:scipy|sklearn|pandas|yfinance)\b.*", re.MULTILINE)
    none_of(
        f"{path.relative_to(CHECKOUT)}: {found}"
        for path in (CHECKOUT / "tests").rglob("*.py")
        for found in heavy.findall(path.read_text())
    )


# Snapshots ----------------------------------------------------------------------------------------------------------------------


def test_every_kept_picture_belongs_to_a_test() -> None:
    """Each test compares its own pictures and misses none; those of a test that is gone would stay unseen."""
    for folder in CHECKOUT.glob("tests/**/__snapshots__/*"):
        module = folder.parents[1] / f"{folder.name}.py"
        tests = {
            node.name for node in ast.parse(module.read_text()).body if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)
        }
        assert {path.name.partition("[")[0] for path in folder.iterdir()} <= tests, folder
