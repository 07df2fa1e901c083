"""What holds for all tests: a home of their own, printed seeds, one Hypothesis profile, and which tests share a worker."""

from __future__ import annotations

import os
import random
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

SEED_VARIABLE = "PACELINE_TEST_SEED"
"""Set it to the number that a failed run printed, and random choices are the same again."""
CLOCK = (
    "engine/ssh/",
    "engine/training/test_run_queue.py",
    "integration/test_crowd.py",
    "integration/test_cuts.py",
    "integration/test_phases.py",
    "integration/test_profiling.py",
    "integration/test_soak_node.py",
    "integration/test_sshd_restart.py",
    "integration/test_straggler.py",
    "integration/test_training_run.py",
    "tui/terminal/test_terminal.py",
)
"""Tests that measure time, pace a device, keep short time limits, or drive a real sshd or terminal: one at a time, one worker."""
TORCH = ("engine/training/", "engine/profiling/", "engine/profiles/")
"""Tests that fork ranks from a process with torch: one worker pays for it."""
FIRST = ("tui/screens/test_looks.py", "integration/test_lab.py")
"""Files of long tests that need nothing in common: begun early and spread over all workers, so that none is left for the end."""

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
    """One worker more than processors: many tests wait for a process, a link or a screen rather than compute."""
    return len(os.sched_getaffinity(0)) + 1


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Name the tests that share a worker, and begin with what takes longest."""
    root = Path(__file__).parent
    ranks = {}
    for item in items:
        name = item.path.relative_to(root).as_posix()
        if name.startswith(CLOCK):
            group, ranks[item] = "clock", 0
        elif name.startswith(FIRST):
            group, ranks[item] = "", 1
        elif name.startswith(TORCH):
            group, ranks[item] = "torch", 2
        else:
            group, ranks[item] = item.path.stem, 3
        if group:
            item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=ranks.__getitem__)


@pytest.fixture(scope="session", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A home without settings, keys or known hosts: nothing of the person who runs the tests is read, and workers share nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        for variable in [name for name in os.environ if name.startswith("XDG_")] + ["SSH_AUTH_SOCK", "NO_COLOR"]:
            patch.delenv(variable, raising=False)
        yield


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A number for the random choices of one test, printed if it fails."""
    number = zlib.crc32(f"{os.environ[SEED_VARIABLE]} {request.node.nodeid.partition('@')[0]}".encode())
    print(f"seed {number}")
    return number
