"""The digest of what a profile times: a workload, its network and task, and the pacing of emulated devices.

It covers the code only: no comments, docstrings, layout, imports or file names. A profile stays valid through an edit that cannot
change a measurement, and the digest is the same in a checkout and in a wheel.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

from ..workloads import WORKLOADS

_TRAINING = Path(__file__).parents[1] / "training"
_TIMED = ("models/*.py", "tasks.py", "emulation/device.py")
"""Files below ``training`` whose code is timed; each pattern must match at least one."""

_EARLIER_DIGESTS = {
    "7d7cdffef701a7a9": ("5e19ecccf76b4545", "c684ed19382f2123"),  # digits-cnn
    "f70042b315f4eaff": ("4565ae60428be0d9", "cd7ee6b003c80eaa"),  # sp500-mlp
    "0d67182e89250608": ("a5c77d7772698f89", "37a3eca1337ed923"),  # agnews-small
    "d7579226be986d63": ("2dffb3bb293942d5", "751668e10d896f1a"),  # agnews-large
}
"""What earlier code stored, newest first and that of 0.1.0 last, by the digest of the code that times the same. Since then names
and places have changed, and emulated devices have learned costs that default to 0. An entry lapses with the next change to its
code."""


@functools.cache
def model_digest(workload: str) -> str:
    """The digest of the installed code for a workload, 16 hexadecimal digits."""
    paths = [sorted(_TRAINING.glob(pattern)) for pattern in _TIMED]
    if not all(paths):
        raise FileNotFoundError(f"no file of {_TRAINING} matches {_TIMED[[bool(found) for found in paths].index(False)]}")
    sources = (path.read_text(encoding="utf-8") for found in paths for path in found)
    return digest_of(repr(WORKLOADS.get(workload)), sources)


def earlier_digests(workload: str) -> tuple[str, ...]:
    """The digests of earlier code that times the same, newest first; () where there is none."""
    return _EARLIER_DIGESTS.get(model_digest(workload), ())


def digest_of(workload: str, sources: Iterable[str]) -> str:
    """The digest of a workload, as text, and of Python sources in any order."""
    digest = hashlib.sha256(workload.encode())
    for code in sorted(_code(ast.parse(source)) for source in sources):
        digest.update(code.encode())
    return digest.hexdigest()[:16]


def _code(node: object) -> str:
    """A syntax tree as text. ``ast.dump`` is no substitute: what it writes depends on the version of Python."""
    if isinstance(node, list):
        return "[" + ",".join(_code(item) for item in node if not _is_without_effect(item)) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = ((name, value) for name, value in ast.iter_fields(node) if value not in (None, []))
    return type(node).__name__ + "(" + ",".join(f"{name}={_code(value)}" for name, value in fields) + ")"


def _is_without_effect(node: object) -> bool:
    """Whether a statement changes nothing that is timed: an import, or a string that stands alone."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return isinstance(node, ast.Import | ast.ImportFrom)
