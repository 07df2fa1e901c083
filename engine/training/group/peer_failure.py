"""Errors of this rank that another rank caused."""

from __future__ import annotations

import torch.distributed as dist

from ...errors import WorkFailed

_PEER_GONE_PHRASES = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe", "timed out")
"""Phrases of torch's RuntimeErrors of broken collectives; gloo's errors have no type of their own."""


class PeerFailed(WorkFailed):
    """Another rank is the cause, and reports it itself."""


def is_collateral(error: BaseException) -> bool:
    """Whether a collective or the store failed because of another rank, and not by a fault of this one."""
    if isinstance(error, (PeerFailed, dist.DistError)):
        return True
    return type(error) is RuntimeError and any(phrase in str(error).lower() for phrase in _PEER_GONE_PHRASES)
