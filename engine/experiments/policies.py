"""The policy benchmark: one question, how should a batch be shared, asked as one case a policy."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import UsageError
from ..specs import POLICIES


def check_named(devices: str) -> None:
    """Raise UsageError where a benchmark would choose its devices: then nobody knows what was compared."""
    if devices == "auto":
        raise UsageError("bench compares on devices that are named", hint="--devices all, or a set such as lab[1-3],atlas:0")


def check_policies(policies: Sequence[str]) -> None:
    """Raise UsageError unless every policy is known and named once: each gives a case and a row its name."""
    known = f"known: {', '.join(POLICIES)}"
    if not policies:
        raise UsageError("no policy to compare", hint=known)
    for index, policy in enumerate(policies):
        if policy not in POLICIES:
            raise UsageError(f"there is no policy {policy!r}", hint=known)
        if policy in policies[:index]:
            raise UsageError(f"policy {policy!r} is named twice", hint="name each policy once")
