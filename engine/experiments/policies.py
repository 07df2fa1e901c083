"""The policy benchmark: the same training once per policy, one case each."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import UsageError
from ..states import POLICIES, Policy, member


def check_explicit_devices(devices: str) -> None:
    """Raise UsageError where a benchmark would choose its devices itself: its result would not say which devices it compared."""
    if devices == "auto":
        raise UsageError("it compares on devices that are named", hint="--devices all, or a set such as lab[1-3],atlas:0")


def check_policies(words: Sequence[str]) -> tuple[Policy, ...]:
    """The policies of these names. Raises UsageError where one is unknown or named twice: each names a case and a row."""
    known = f"known: {', '.join(POLICIES)}"
    if not words:
        raise UsageError("no policy to compare", hint=known)
    policies: list[Policy] = []
    for word in words:
        policy = member(word, POLICIES)
        if policy is None:
            raise UsageError(f"there is no policy {word!r}", hint=known)
        if policy in policies:
            raise UsageError(f"policy {policy!r} is named twice", hint="name each policy once")
        policies.append(policy)
    return tuple(policies)
