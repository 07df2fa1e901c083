"""Counts the parameters of a model without making it: ``python -m paceline.engine.script.habits.count SCRIPT MANIFEST ARGS``.

The script is read as a module, not run; its ``build(options, facts)`` makes the model on meta tensors, which have no memory.
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn


def count_parameters(script: Path, arguments: list[str], facts: dict[str, Any]) -> int:
    """Return the trainable parameters of the model that a script builds with its arguments and the facts of its data.

    A weight that two layers share counts once.
    """
    kept, sys.argv = sys.argv, [str(script), *arguments]
    try:
        names = runpy.run_path(str(script), run_name="paceline.counted")
    finally:
        sys.argv = kept
    with torch.device("meta"):
        model: nn.Module = names["build"](names["options"], facts)
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


if __name__ == "__main__":
    print(count_parameters(Path(sys.argv[1]), sys.argv[3:], json.loads(Path(sys.argv[2]).read_text())))
