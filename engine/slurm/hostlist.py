"""Host lists as Slurm writes them, such as ``rack[1-2]n[01-03,7],login``. Pure."""

from __future__ import annotations

import re

MAX_HOSTS = 65_536
"""Names of one list; a longer one is refused."""


def expand_hosts(text: str) -> list[str]:
    """The names of a host list in their order; leading zeros are kept. Raises ValueError for what is none."""
    names: list[str] = []
    for word in re.findall(r"(?:[^,\[\]]|\[[^\]]*\])+|[\[\]]", text.strip()):
        names += _expand(word)
        if len(names) > MAX_HOSTS:
            raise ValueError(f"more than {MAX_HOSTS} hosts")
    return names


def _expand(word: str) -> list[str]:
    match = re.fullmatch(r"([A-Za-z0-9._-]*)\[([0-9,-]+)\](.*)", word)
    if match is None:
        if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", word) is None:
            raise ValueError(f"{word[:60]!r} is no host")
        return [word]
    prefix, ranges, rest = match.groups()
    numbers: list[str] = []
    for part in ranges.split(","):
        ends = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part)
        if ends is None or not 0 <= int(ends[2] or ends[1]) - int(ends[1]) < MAX_HOSTS:
            raise ValueError(f"{part[:60]!r} is no range of hosts")
        numbers += [f"{number:0{len(ends[1])}d}" for number in range(int(ends[1]), int(ends[2] or ends[1]) + 1)]
    tails = _expand(f"x{rest}") if rest else ["x"]
    if len(numbers) * len(tails) > MAX_HOSTS:
        raise ValueError(f"more than {MAX_HOSTS} hosts")
    return [f"{prefix}{number}{tail[1:]}" for number in numbers for tail in tails]
