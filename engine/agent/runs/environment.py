"""The environment of a run's programs: that of the login and of nodes.toml, less what would take the run away from its plan. Pure.

torchrun reads options of its own from variables, torch and Python stop at values that they do not know, and PYTHONINSPECT turns a
failure into a success. Whatever else a person has set reaches the ranks as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_OF_TORCHRUN = re.compile(
    r"PET_\w*|TORCHELASTIC_\w*|TORCH_ELASTIC_\w*"  # options of torchrun and of its agent
    r"|(LOCAL_|GROUP_|ROLE_|NODE_)?RANK|((LOCAL_|GROUP_|ROLE_)?WORLD_SIZE)|ROLE_NAME|MASTER_(ADDR|PORT)"  # the plan decides
    r"|GLOO_DEVICE_TRANSPORT|PYTHONINSPECT|PYTHONSTARTUP"
)
_DEBUG_LEVELS = {"OFF": "OFF", "INFO": "INFO", "DETAIL": "INFO"}
"""Of TORCH_DISTRIBUTED_DEBUG; with DETAIL, DistributedDataParallel over gloo ends by SIGSEGV (torch 2.13)."""
_LOG_LEVELS = {name: name for name in ("CRITICAL", "FATAL", "ERROR", "WARN", "WARNING", "INFO", "DEBUG", "NOTSET")}
"""Of LOGLEVEL, which torchrun passes to logging as it is: small letters end it."""


def run_environment(login: Mapping[str, str], node: Mapping[str, str], processors: int) -> tuple[dict[str, str], list[str]]:
    """The environment of torchrun, and a sentence for each value that is replaced.

    ``login``: environment of the runner, whose PYTHONPATH is the bundle; ``node``: ``env`` of nodes.toml, which wins.
    """
    environment = {name: value for name, value in {**login, **node}.items() if not _OF_TORCHRUN.fullmatch(name)}
    if "PYTHONPATH" in node and login.get("PYTHONPATH"):
        environment["PYTHONPATH"] = f"{login['PYTHONPATH']}:{node['PYTHONPATH']}"
    asked = {name: environment.get(name) for name in ("OMP_NUM_THREADS", "TORCH_DISTRIBUTED_DEBUG", "LOGLEVEL")}
    environment["OMP_NUM_THREADS"] = str(thread_count(asked["OMP_NUM_THREADS"], processors))
    for name, levels in (("TORCH_DISTRIBUTED_DEBUG", _DEBUG_LEVELS), ("LOGLEVEL", _LOG_LEVELS)):
        if (value := environment.pop(name, None)) is not None and (level := levels.get(value.strip().upper())) is not None:
            environment[name] = level
    told = []
    if "SLURM_JOB_ID" not in environment and (visible := environment.pop("CUDA_VISIBLE_DEVICES", None)) is not None:
        told.append(f"CUDA_VISIBLE_DEVICES={visible[:40]!r} is not taken: the plan numbers all GPUs, --devices chooses")
    for name, value in asked.items():
        used = environment.get(name)
        if value and value.strip().upper() != used:
            told.append(f"{name}={value[:40]!r} is not taken: " + (f"{used} is used" if used else "it is left out"))
    return environment, told


def thread_count(text: str | None, processors: int) -> int:
    """Threads of a rank by OMP_NUM_THREADS: the outermost level of a list (OpenMP 5.2, 21.1.2); 1 where it names no number.

    At most ``processors``: a library that cannot start its threads ends the process.
    """
    match = re.fullmatch(r"\s*\+?0*([1-9][0-9]{0,8})\s*(,[\s0-9,]*)?", text or "", re.ASCII)
    return min(int(match[1]), max(1, processors)) if match else 1
