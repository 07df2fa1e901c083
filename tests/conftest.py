"""What holds for all tests: a home of their own, printed seeds, one Hypothesis profile, and which tests share a worker."""

from __future__ import annotations

import gc
import os
import random
import zlib
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from textual.css.stylesheet import Stylesheet

SEED_VARIABLE = "PACELINE_TEST_SEED"
"""Set it to the number that a failed run printed, and random choices are the same again."""
GROUPS = {
    "clock": (
        "engine/training/test_run_queue.py",
        "integration/test_phases.py",
        "integration/test_profiling.py",
        "integration/test_soak_node.py",
        "integration/test_straggler.py",
        "integration/test_training_run.py",
    ),
    "sshd": (
        "engine/ssh/",
        "integration/test_crowd.py",
        "integration/test_cuts.py",
        "integration/test_sshd_restart.py",
    ),
    "torch": ("engine/training/", "engine/script/", "engine/profiling/", "engine/profiles/"),
    "terminal": ("tui/terminal/test_terminal.py",),
}
"""Tests that share a worker, and so never run two at once, by the start of their path; the first match counts.

``clock`` measures time or paces devices, ``sshd`` keeps short time limits on real servers, ``terminal`` draws on real terminals,
``torch`` forks ranks from a process with torch, which one worker pays for. Every other file is a group of its own.
"""
SPREAD = ("integration/test_lab.py", "tui/")
"""Tests that share nothing: each may go to another worker."""

settings.register_profile("paceline", deadline=None, print_blob=True, database=None)
settings.load_profile("paceline")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Choose the seed, once for all workers: they inherit the environment."""
    os.environ.setdefault(SEED_VARIABLE, str(random.randrange(2**32)))
    if config.getoption("hypothesis_seed", None) is None:
        config.option.hypothesis_seed = os.environ[SEED_VARIABLE]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the seed: a header would be left out by ``-q``."""
    terminalreporter.write_line(f"seed: {SEED_VARIABLE}={os.environ[SEED_VARIABLE]}")


def pytest_xdist_auto_num_workers() -> int:
    """Two workers more than processors: many tests wait for a process, a link or a screen rather than compute."""
    return len(os.sched_getaffinity(0)) + 2


def group_of(name: str) -> str:
    """The group of a test file; empty where each of its tests is one of its own."""
    named = next((group for group, starts in GROUPS.items() if name.startswith(starts)), "")
    return named or ("" if name.startswith(SPREAD) else Path(name).stem)


def begin_of(name: str) -> int:
    """When the tests of a file begin: long groups first, single tests last, so that all workers end at the same time."""
    long = ("clock", "sshd", "torch", "terminal")
    group = group_of(name)
    if group in long:
        return long.index(group)
    if name.startswith(("integration/test_lab.py", "tui/screens/test_looks.py")):
        return 1
    return 4 if group else 5


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Name the tests that share a worker, and begin with the groups that take longest."""
    root = Path(__file__).parent
    names = {item: item.path.relative_to(root).as_posix() for item in items}
    for item, name in names.items():
        if group := group_of(name):
            item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: begin_of(names[item]))


def pytest_collection_finish() -> None:
    """Keep the garbage collector away from what stays to the end: with torch imported, one full collection takes half a second.

    What a test allocates is collected a tenth as often, as in the app itself: a tenth of the processor time of all tests.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def pytest_sessionfinish() -> None:
    """Spare the five full collections with which pytest ends in every worker: they would take seconds."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _parsed_style_sheets() -> Iterator[None]:
    """Parse each style sheet once a worker: Textual parses all of them at the start of every app, 0.2 s of a processor."""
    parsed: dict[Hashable, Any] = {}
    parse = Stylesheet._parse_rules

    def parse_once(sheet: Stylesheet, *args: Any, **options: Any) -> Any:
        key = (args, frozenset(options.items()), frozenset(sheet._variables.items()))
        if key not in parsed:
            parsed[key] = parse(sheet, *args, **options)
        return parsed[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stylesheet, "_parse_rules", parse_once)
        yield


@pytest.fixture(scope="session", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A home without settings, keys or known hosts: nothing of the person who runs the tests is read, and workers share nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        unset = ["SSH_AUTH_SOCK", "NO_COLOR", "COLUMNS", "LINES"]  # pytest-xdist sets a size of the terminal for its workers
        for variable in [name for name in os.environ if name.startswith("XDG_")] + unset:
            patch.delenv(variable, raising=False)
        patch.setattr("paceline.engine.ssh.openssh.config_file.SYSTEM_CONFIG", Path("/nonexistent/ssh_config"))
        yield


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A number for the random choices of one test, printed if it fails."""
    number = zlib.crc32(f"{os.environ[SEED_VARIABLE]} {request.node.nodeid.partition('@')[0]}".encode())
    print(f"seed {number}")
    return number
