"""Training scripts of other people, unmodified: ``python -m benchmarks.scripts.public CLONES [--only WORD] [--extra DIRECTORY]``.

REAL: each script is laid out at the commit named below, from the clone ``CLONES/<owner>+<name>`` (or ``.../repo`` in it), and is
launched by ``paceline train`` on an embedded lab of two unlike devices, with equal shares and with hybrid. Printed are the verdict,
door, loss and reason, and the speed-up. No script is committed here; a clone that is missing is named and left out.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.table import Figure, print_figures
from tests.support.runs.labs import LabDirectory

SPEEDS = {"fast": 3.0, "slow": 1.0}
MIN_SPEEDUP = 1.5
"""Of hybrid over equal: four devices' worth of work instead of two, and steps before shares are known."""


@dataclass(frozen=True)
class PublicScript:
    """One script, and what is right to say of it."""

    repository: str
    commit: str
    path: str
    args: tuple[str, ...]
    rate: int
    """Samples a second of a device of speed 1, so that a step takes some tenths of a second."""
    reason: str | None = None
    """Start of the reason why it runs as it is; None: it is balanced."""

    @property
    def name(self) -> str:
        """As a person reads it."""
        return f"{self.repository} {self.path}"


RL = "f4176021450727d5607c530fe67f3aad73d04a75"
SCRIPTS = (
    PublicScript(
        "sathishrvijay/distributed-rl",
        RL,
        "torchrun/ddp_train.py",
        ("--num-samples", "2560", "--batch-size", "32", "--epochs", "3"),
        rate=80,
    ),
    PublicScript(
        "sathishrvijay/distributed-rl",
        RL,
        "hf_accelerate/distr_train.py",
        ("--num-samples", "2560", "--batch-size", "32", "--epochs", "3"),
        rate=80,
    ),
    PublicScript(
        "facebookresearch/dlrm",
        "090956ee2319ddd349a42232958aefccfe3f7b0a",
        "dlrm_s_pytorch.py",
        ("--dist-backend=gloo", "--arch-embedding-size=40-40-40-40", "--mini-batch-size=16", "--num-batches=30", "--print-freq=10"),
        rate=80,
        reason="it trains several models",
    ),
)


def lay_out(script: PublicScript, clones: Path, place: Path) -> bool:
    """Write the files of the script's commit into a directory; False where there is no such clone."""
    clone = clones / script.repository.replace("/", "+")
    clone = clone / "repo" if (clone / "repo").exists() else clone
    if not clone.exists():
        return False
    archive = subprocess.run(["git", "-C", str(clone), "archive", script.commit], capture_output=True, check=False)
    if archive.returncode != 0:
        return False
    subprocess.run(["tar", "-x", "-C", str(place)], input=archive.stdout, check=True)
    return True


def launch(script: PublicScript, code: Path, place: Path, policy: str, extra: str | None) -> tuple[int, dict[str, Any], str]:
    """Status, document and narration of one run on a lab of its own."""
    lab = LabDirectory(place, SPEEDS)
    nodes = place / "nodes.toml"
    text = nodes.read_text().replace("speed = ", f'rate = "{script.rate}/s", speed = ')
    environment = {"ACCELERATE_USE_CPU": "true", "HF_HUB_OFFLINE": "1"} | ({"PYTHONPATH": extra} if extra else {})
    pairs = ", ".join(f'{name} = "{value}"' for name, value in environment.items())
    nodes.write_text(text.replace('kind = "embedded"', f'kind = "embedded"\nenv = {{ {pairs} }}'))
    try:
        words = ("train", "--policy", policy, "--workdir", str(code), str(code / script.path), *script.args)
        status, document = lab.run(*words)
        return status, document, lab.narration()
    finally:
        lab.end_runs()


def measure(script: PublicScript, clones: Path, extra: str | None) -> list[Figure]:
    """Run a script with equal shares and with hybrid."""
    rates: dict[str, float] = {}
    balance: dict[str, Any] = {}
    for policy in ("equal", "hybrid"):
        with tempfile.TemporaryDirectory() as directory:
            place = Path(directory)
            code = place / "code"
            code.mkdir()
            if not lay_out(script, clones, code):
                return [Figure(script.name, "runs", f"there is no clone with {script.commit[:9]} in {clones}", False)]
            status, document, narration = launch(script, code, place, policy, extra)
            if status != 0:
                last = (narration.strip().splitlines() or ["nothing was said"])[-1]
                return [Figure(script.name, "runs", f"{policy}: status {status}: {document.get('reason') or last}"[:200], False)]
            rates[policy] = document.get("samples_per_second") or 0.0
            balance = document.get("balance") or {}
    speedup = rates["hybrid"] / rates["equal"] if rates["equal"] else None
    said = f"{balance.get('state')}, door {balance.get('door')}, loss {balance.get('loss')}"
    if balance.get("reason"):
        said += f", {balance['reason']}"
    if speedup:
        said += f", {speedup:.2f}x over equal"
    if script.reason is not None:
        is_right = balance.get("state") == "as-is" and str(balance.get("reason")).startswith(script.reason)
        return [Figure(script.name, f"as-is: {script.reason}", said, is_right)]
    is_right = balance.get("state") == "balanced" and speedup is not None and speedup >= MIN_SPEEDUP
    return [Figure(script.name, f"balanced, >= {MIN_SPEEDUP}x", said, is_right)]


def main() -> int:
    """Run the scripts and print what came of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clones", type=Path, nargs="?", default=os.environ.get("PUBLIC_SCRIPTS"))
    parser.add_argument("--only", default="", help="scripts whose name holds this word")
    parser.add_argument("--extra", help="a directory of packages that scripts import and this environment lacks")
    options = parser.parse_args()
    if options.clones is None:
        parser.error("name the directory of the clones, or set PUBLIC_SCRIPTS")
    figures = []
    for script in SCRIPTS:
        if options.only in script.name:
            figures += measure(script, Path(options.clones).resolve(), options.extra)
            print_figures(figures[-1:])
    print("\nall scripts")
    return print_figures(figures)


if __name__ == "__main__":
    raise SystemExit(main())
