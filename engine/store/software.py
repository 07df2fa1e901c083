"""What the Python of a node lacks for a training, and where the nodes differ: known before anything is sent there. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ..events import NodeConnected

NEEDED_PACKAGES = ("torch", "numpy")
INSTALL_HINT = "set python in nodes.toml to an interpreter that has torch and numpy, or install them there"
WANTED_TORCH = (2, 6)
"""Oldest torch that is tested."""


def missing_packages(node: NodeConnected) -> str:
    """What the node's Python lacks, as a sentence; empty where it lacks nothing, or does not say."""
    missing = [name for name in NEEDED_PACKAGES if node.packages.get(name) == ""]
    return f"its Python {node.python} has no {' and no '.join(missing)}: nothing can be trained there" if missing else ""


def torch_warnings(nodes: Iterable[NodeConnected]) -> list[str]:
    """Doubts about the versions of torch of nodes that train together, each a sentence.

    Builds of one version for several accelerators (``2.6.0+cu124``) are the same version.
    """
    by_version: dict[str, list[str]] = {}
    for node in nodes:
        if version := node.torch.partition("+")[0]:
            by_version.setdefault(version, []).append(node.node)
    old = [name for version, names in by_version.items() if _number(version) < WANTED_TORCH for name in names]
    warnings = [f"torch is older than {'.'.join(map(str, WANTED_TORCH))} on {', '.join(old)}, which is not tested"] if old else []
    if len({_number(version) for version in by_version}) > 1:
        listed = "; ".join(f"{version} on {', '.join(names)}" for version, names in by_version.items())
        warnings.append(f"nodes differ in torch, so their ranks may not understand each other: {listed}")
    return warnings


def _number(version: str) -> tuple[int, ...]:
    """Major and minor version; (0, 0) where it is no version."""
    parts = version.split(".")[:2]
    return tuple(map(int, parts)) if len(parts) == 2 and all(part.isascii() and part.isdecimal() for part in parts) else (0, 0)
