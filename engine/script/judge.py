"""Decides whether a script can be balanced: ranks agree on hindrances through their slots, and rank 0 reports the verdict once.

A script begins unchanged. After some steps in which no rank noticed a hindrance it is balanced; a hindrance that shows later ends
that on all ranks together, from the next batch that is cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

OBSERVED_STEPS = 2
"""Exchanges before the first unequal batch: what a script does between two exchanges shows in the second one."""

HINDRANCES: tuple[str, ...] = (
    "",
    "its data are iterable: the script, not its loader, decides which rank reads what",
    "its loader has a sampler of its own",
    "its loader has a batch sampler of its own",
    "its loader has no batch size",
    "its loader does not shuffle and never calls set_epoch",
    "its sampler shares the data among another number of ranks",
    "it trains without DistributedDataParallel",
    "it trains several models",
    "it trains with FSDP",
    "it uses Join for uneven inputs",
    "it averages gradients itself",
    "its loss collects samples of other ranks",
    "samples of a batch meet each other in its loss",
    "its loss cannot be read",
    "it trains a batch in parts of its own",
    "it averages weights instead of gradients",
    "it takes the batches of several loaders in one step",
    "it shares its model through DeepSpeed",
    "its own communication hook changes what is sent",
    "it trains batches that come from no loader",
    "its policy is equal",
    "one backward of it trains several batches",
    "its loader hands batches out in any order",
    "it changes gradients before they are averaged",
    "its optimizer steps inside backward",
    "its metrics collect samples of other ranks, which takes equal batches",
)
"""Reasons, by the code that a slot carries."""
CODES = {reason: code for code, reason in enumerate(HINDRANCES)}

State = Literal["observing", "balanced", "as-is"]


def code_of(start: str) -> int:
    """Return the code of the reason that starts with these words."""
    (code,) = [code for reason, code in CODES.items() if reason.startswith(start) and reason]
    return code


@dataclass(slots=True)
class Judge:
    """The verdict on one script, the same on every rank."""

    state: State = "observing"
    own_code: int = 0
    """What this rank noticed first; 0: nothing."""
    detail: str = ""
    """Said with it."""
    agreed_code: int = 0
    _clean_steps: int = 0
    _is_told: bool = field(default=False)

    def notice(self, start: str, detail: str = "") -> None:
        """Note a hindrance; the first one counts."""
        if not self.own_code:
            self.own_code, self.detail = code_of(start), detail

    def agree(self, codes: Sequence[float]) -> bool:
        """Take the codes of all ranks after an exchange; return whether the state changed."""
        before = self.state
        worst = max((round(code) for code in codes), default=0)
        if worst:
            self.agreed_code = self.agreed_code or worst
            self.state = "as-is"
        elif self.state == "observing":
            self._clean_steps += 1
            if self._clean_steps >= OBSERVED_STEPS:
                self.state = "balanced"
        return self.state != before

    @property
    def reason(self) -> str | None:
        """Why it runs as it is; None where it does not."""
        code = self.agreed_code or self.own_code
        if not code or code >= len(HINDRANCES):
            return None
        return HINDRANCES[code] + (f" ({self.detail})" if self.detail and code == self.own_code else "")
