"""ssh configurations and known_hosts beside OpenSSH's client: ``python -m benchmarks fleet/openssh``.

Files, seeds and reasons of differences are those of the tests.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

import asyncssh
from paceline.engine.ssh.openssh import config_file

from benchmarks.table import Figure, print_figures
from tests.support.ssh.beside_openssh import REASONS, TrustSample, differences, host
from tests.support.ssh.config_samples import ConfigSample

COUNT = 200


def measure() -> list[Figure]:
    """Two figures: configurations read alike, and verdicts of trust alike or stricter."""
    config_file.SYSTEM_CONFIG = Path("/nonexistent")  # ssh -F does not read it either
    with tempfile.TemporaryDirectory() as directory:
        different = 0
        for seed in range(COUNT):
            found = differences(ConfigSample(seed, Path(directory) / str(seed) / ".ssh"))
            different += bool(found)
            for line in found:
                print(f"seed {seed}: {line}", flush=True)
        verdicts = asyncio.run(_verdicts(Path(directory) / "trust"))
    for name, reason in REASONS.items():
        print(f"allowed: {name}: {reason}", flush=True)
    print(", ".join(f"ssh {theirs}, we {ours}: {count}" for (theirs, ours), count in sorted(verdicts.items())), flush=True)
    stricter = {("trusted", "revoked"), ("changed", "revoked")}
    wrong = sum(count for pair, count in verdicts.items() if pair[0] != pair[1] and pair not in stricter)
    return [
        Figure("ssh configurations beside ssh -G", f"{COUNT} alike", f"{COUNT - different} alike", different == 0),
        Figure("known_hosts beside ssh: verdicts", f"{COUNT} alike or stricter", f"{COUNT - wrong}", wrong == 0),
    ]


async def _verdicts(directory: Path) -> Counter[tuple[str, str]]:
    key = asyncssh.generate_private_key("ssh-ed25519")
    verdicts: Counter[tuple[str, str]] = Counter()
    async with host(key) as port:
        for seed in range(COUNT):
            sample = TrustSample(seed, directory / str(seed), port, key)
            os.environ["HOME"] = str(sample.home)
            verdicts[await sample.of_ssh(), await sample.of_ours()] += 1
    return verdicts


def main() -> int:
    """Measure and print. Returns 1 where a goal was missed."""
    return print_figures(measure())


if __name__ == "__main__":
    sys.exit(main())
