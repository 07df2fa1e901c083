"""What the Python of a node lacks, and where nodes differ."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from paceline.engine.agent.telemetry.versions import package_version
from paceline.engine.events import NodeConnected
from paceline.engine.store.reduce import reduce
from paceline.engine.store.software import missing_packages, torch_warnings
from paceline.engine.store.state import State


def node(name: str, torch: str = "2.6.0", numpy: str = "2.1") -> NodeConnected:
    return NodeConnected(node=name, python="3.11.7", torch=torch, packages={"torch": torch, "numpy": numpy})


@pytest.mark.parametrize(
    ("torch", "numpy", "told"),
    [
        ("2.6.0", "1.26", ""),
        ("?", "?", ""),
        ("", "2.1", "has no torch:"),
        ("2.6", "", "has no numpy:"),
        ("", "", "no torch and no numpy"),
    ],
)
def test_a_python_that_cannot_train_is_named_with_what_it_lacks(torch: str, numpy: str, told: str) -> None:
    text = missing_packages(node("a", torch, numpy))
    assert told in text
    assert bool(text) == bool(told)


def test_a_node_that_does_not_say_is_no_fault() -> None:
    assert missing_packages(NodeConnected(node="a", python="3.11.7")) == ""
    assert torch_warnings([NodeConnected(node="a"), node("b")]) == []


def test_nodes_that_differ_in_torch_are_named_and_builds_for_accelerators_do_not_differ() -> None:
    assert torch_warnings([node("a", "2.6.0+cu124"), node("b", "2.6.1+cpu"), node("c", "2.6.0")]) == []
    (text,) = torch_warnings([node("a", "2.6.0"), node("b", "2.7.1"), node("c", "2.6.0")])
    assert text.endswith("2.6.0 on a, c; 2.7.1 on b")
    (text,) = torch_warnings([node("a", "2.4.1"), node("b", "2.4.0")])
    assert text.startswith("torch is older than 2.6 on a, b")


def test_it_is_an_alert_until_the_node_connects_with_a_better_python() -> None:
    state = reduce(State(), node("a", torch=""))
    assert [alert.text for alert in state.alerts if alert.ended_at is None] == [missing_packages(node("a", torch=""))]
    assert [alert for alert in reduce(state, node("a")).alerts if alert.ended_at is None] == []


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("__version__ = '2.6.0+cu124'\n", "2.6.0+cu124"),
        ('version = "1.26.4"\n__version__ = version\n', "1.26.4"),
        ('version: str = "2.1.0"\n', "2.1.0"),
        ("x = 1\n", "?"),
        (None, "?"),
    ],
)
def test_the_version_of_a_package_is_read_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, version: str
) -> None:
    package = tmp_path / "odd_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported')\n")
    if text is not None:
        (package / "version.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert package_version("odd_package") == version
    assert package_version("no_such_package") == ""
    assert "odd_package" not in sys.modules
