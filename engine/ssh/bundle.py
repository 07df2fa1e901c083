"""The bundle: the modules that run on a node, as one zip file named by the digest of its content.

``NODE_MODULES`` and ``NODE_PACKAGES`` are the only list of what runs on a node. Lint targets and import contracts in pyproject.toml
are checked against it by tests/test_project.py.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

NODE_MODULES = ("__init__", "errors", "events", "plan", "specs", "states", "wire")
"""Modules of ``engine``: the vocabulary that both sides share."""
NODE_PACKAGES = ("agent", "balancer", "membership", "profiling", "protocol", "script", "slurm", "training", "workloads")
"""Packages of ``engine``, each with all its modules."""
_ZIP_TIMESTAMP = (1980, 1, 1, 0, 0, 0)
"""Timestamp of every zip entry, fixed so that the same modules give the same bytes."""


@dataclass(frozen=True)
class Bundle:
    """The modules for a node, as one zip file that Python imports from."""

    digest: str
    data: bytes

    @property
    def name(self) -> str:
        """File name on every node."""
        return f"{self.digest}.zip"


def _library(engine: Path) -> Path:
    """The file behind ``import paceline``: part of ``engine`` in a checkout, above it where packages are installed."""
    checkout = engine / "script" / "library" / "__init__.py"
    return checkout if checkout.exists() else engine.parent / "__init__.py"


@functools.cache
def bundle() -> Bundle:
    """Pack the modules as ``paceline.engine``, the library ``paceline`` around and pynvml beside it. Cached for good."""
    engine = Path(__file__).parents[1]
    files = {"paceline/__init__.py": _library(engine).read_bytes()}
    for module in NODE_MODULES:
        files[f"paceline/engine/{module}.py"] = (engine / f"{module}.py").read_bytes()
    for package in NODE_PACKAGES:
        for path in (engine / package).rglob("*.py"):
            files[f"paceline/engine/{path.relative_to(engine).as_posix()}"] = path.read_bytes()
    pynvml = importlib.util.find_spec("pynvml")
    if pynvml is not None and pynvml.origin is not None:
        files["pynvml.py"] = Path(pynvml.origin).read_bytes()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _ZIP_TIMESTAMP)
            entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, 3, 0o600 << 16
            archive.writestr(entry, files[name])
    data = buffer.getvalue()
    return Bundle(hashlib.sha256(data).hexdigest(), data)
