"""Inside an allocation of Slurm (``salloc``) its machines are the lab: each is reached by SSH, which Slurm admits for its time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ..errors import ConfigurationError
from ..slurm.hostlist import expand_hosts
from ..specs import Inventory, NodeSpec


def allocation_inventory(environment: Mapping[str, str], path: Path, python: str) -> Inventory | None:
    """The machines of the allocation that a process is in, by its environment; None: it is in none. Pure.

    ``path``: of the nodes.toml beside which logs are written; it need not exist. ``python``: of this process: machines of one
    cluster share it. A heterogeneous allocation names the machines of each component. Raises ConfigurationError.
    """
    if not environment.get("SLURM_JOB_ID"):
        return None
    lists = [environment["SLURM_JOB_NODELIST"]] if environment.get("SLURM_JOB_NODELIST") else []
    groups = {name: value for name, value in environment.items() if re.fullmatch(r"SLURM_JOB_NODELIST_HET_GROUP_\d+", name)}
    lists += [groups[name] for name in sorted(groups, key=lambda name: int(name.rpartition("_")[2]))]
    try:
        names = list(dict.fromkeys(name for one in lists for name in expand_hosts(one)))
    except ValueError as error:
        raise ConfigurationError(f"SLURM_JOB_NODELIST: {error}", hint="--nodes FILE names the machines instead") from None
    if not names:
        return None
    return Inventory(path=str(path.absolute()), nodes=tuple(NodeSpec(name, host=name, python=python) for name in names))
