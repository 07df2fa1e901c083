"""The bundle: our modules that run on nodes, as one zip named by the digest of its content.

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

NODE_MODULES = ("__init__", "errors", "events", "plan", "specs", "wire", "workloads")
"""Modules of ``engine``: the vocabulary that both sides share."""
NODE_PACKAGES = ("agent", "balancer", "profiling", "protocol", "training")
"""Packages of ``engine``, each with all that is in it."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""A fixed time in every zip entry: the same modules give the same bytes."""


@dataclass(frozen=True)
class Bundle:
    """What a node needs of us, as one zip that Python imports from."""

    digest: str
    data: bytes

    @property
    def name(self) -> str:
        """Its file name on every node."""
        return f"{self.digest}.zip"


@functools.cache
def bundle() -> Bundle:
    """Pack the node-side modules as ``paceline.engine``, with pynvml beside it; once a process."""
    engine = Path(__file__).parents[1]
    files = {"paceline/__init__.py": b""}
    for module in NODE_MODULES:
        files[f"paceline/engine/{module}.py"] = (engine / f"{module}.py").read_bytes()
    for package in NODE_PACKAGES:
        for path in (engine / package).rglob("*.py"):
            files[f"paceline/engine/{path.relative_to(engine).as_posix()}"] = path.read_bytes()
    found = importlib.util.find_spec("pynvml")
    if found is not None and found.origin is not None:
        files["pynvml.py"] = Path(found.origin).read_bytes()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, 3, 0o600 << 16
            archive.writestr(entry, files[name])
    data = packed.getvalue()
    return Bundle(hashlib.sha256(data).hexdigest(), data)
