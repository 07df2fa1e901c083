"""The example scripts that come with the library, one for each workload and model, to print and to change."""

from __future__ import annotations

from importlib import resources

from ...errors import UsageError
from ...reports.document_type import Document
from ...workloads import WORKLOADS
from ...workloads.models import MODELS

EXAMPLES = tuple(dict.fromkeys([*WORKLOADS, *MODELS]))
"""Names of all examples."""
_PACKAGE = "paceline.engine.script.examples"


def example(name: str) -> Document:
    """The source of an example. Raises UsageError for an unknown name."""
    if name not in EXAMPLES:
        raise UsageError(f"there is no example {name[:60]!r}", hint="known: " + ", ".join(EXAMPLES))
    source = resources.files(_PACKAGE).joinpath(f"{name.replace('-', '_')}.py").read_text(encoding="utf-8")
    return {"type": "example", "name": name, "source": source}
