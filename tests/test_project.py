"""The frame holds: what is imported at start, what is packaged, pinned, documented and promised in the README."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.places import CHECKOUT
from tests.support.screens.documents import documented, paths

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())


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
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == folders


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
    targets = set(re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1].split())  # type: ignore[index]
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
