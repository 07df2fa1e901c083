"""Measures on one machine with an NVIDIA card what no processor can show: ``python benchmarks/gpu.py [--out DIR]``.

Needs torch >= 2.6 and numpy, no network and no installation, and at most eight minutes. Each part runs in a process of its own with
a limit of its own, so that a crash or a hang costs that part only; the page is written again after each part. Without a card the
parts run as far as a processor goes, and the page says what it could not measure.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # the folder of this file would hide the package that it is in

from benchmarks.card.rows import FAILED, GOOD, LOOK, MARK, UNMEASURED, Row  # noqa: E402

CPU_PATIENCE = 2.0
"""Factor on each part's limit without a card: a busy processor is slow, and that proves nothing."""
TOTAL_SECONDS = 470.0
"""Of all parts together."""
LEAST_SECONDS = 10.0
"""A part is not begun with less time than this: importing torch takes some of it."""


@dataclass(frozen=True)
class Step:
    """One part: the module in ``benchmarks.card``, what it shows, and its limit in seconds."""

    module: str
    title: str
    seconds: float


STEPS = (
    Step("readings", "Readings beside nvidia-smi", 40),
    Step("profile", "Profile beside published figures", 70),
    Step("workloads", "A step of every workload", 90),
    Step("timing", "Timing beside a profiler's trace", 50),
    Step("late", "Late reading and veto", 50),
    Step("formats", "Number formats", 80),
    Step("memory", "Largest batch, out of memory", 60),
    Step("two_ranks", "Two unlike ranks on the one card", 100),
    Step("energy", "Joules per sample", 50),
)
"""In the order in which they run, the most telling first, should the time not reach."""


def run_step(step: Step, device: str, limit: float, environment: dict[str, str]) -> tuple[list[Row], str]:
    """Run one part; return its rows and its log. A part that fails or takes too long adds a row that says so."""
    command = [sys.executable, "-m", f"benchmarks.card.{step.module}", device]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, text=True, start_new_session=True, **pipes)  # type: ignore[call-overload]  # the pipes are chosen above
    is_late = False
    try:
        output, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        is_late = True
        os.killpg(process.pid, signal.SIGKILL)  # its ranks too: they are in its session
        output, _ = process.communicate()
    lines = output.splitlines()
    rows = [Row(**json.loads(line.removeprefix(MARK))) for line in lines if line.startswith(MARK)]
    log = "\n".join(line for line in lines if not line.startswith(MARK))
    if is_late:
        verdict = FAILED if device == "cuda" else UNMEASURED
        rows.append(Row(step.module, "the whole part", f"stopped after {limit:.0f} s", "an end", verdict))
    elif process.returncode != 0:
        last = next((line for line in reversed(lines) if line.strip() and not line.startswith(MARK)), "")
        rows.append(Row(step.module, "the whole part", f"status {process.returncode}: {last[:160]}", "status 0", FAILED))
    return rows, log


def machine(environment: dict[str, str]) -> dict[str, str]:
    """What the figures are of, from a process of its own: torch holds no memory of the card in this one."""
    program = (
        "import json, torch; has = torch.cuda.is_available(); p = torch.cuda.get_device_properties(0) if has else None; "
        "print(json.dumps({'torch': torch.__version__, 'cuda': str(torch.version.cuda), 'device': 'cuda' if has else 'cpu', "
        "'card': p.name if has else 'none', 'memory': f'{p.total_memory / 2**30:.0f} GiB' if has else '', "
        "'compute capability': f'{p.major}.{p.minor}' if has else ''}))"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=120, check=True
        )
        found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        stderr = getattr(error, "stderr", None) or str(error)
        sys.exit(
            f"gpu: {sys.executable} cannot import torch: {str(stderr).strip().splitlines()[-1]} (torch >= 2.6 and numpy are needed)"
        )
    return found | {"python": platform.python_version(), "host": platform.machine()}


def page(facts: dict[str, str], results: dict[str, list[Row]], seconds: dict[str, float]) -> str:
    """The page as Markdown, with the parts that are done so far."""
    counted = {
        word: sum(row.verdict == word for rows in results.values() for row in rows) for word in (GOOD, LOOK, FAILED, UNMEASURED)
    }
    lines = ["# What one card showed", "", " · ".join(f"{name} {value}" for name, value in facts.items() if value), ""]
    lines += [", ".join(f"{count} {word}" for word, count in counted.items()), ""]
    if facts["device"] != "cuda":
        lines += ["No card was found: what runs on a processor ran there, at a small size, and proves nothing about a card.", ""]
    for step in STEPS:
        lines += [f"## {step.title}", ""]
        if step.module not in results:
            lines += ["not run yet", ""]
            continue
        lines += ["| figure | value | expected | verdict |", "|---|---|---|---|"]
        lines += [
            f"| {' | '.join(_cell(one) for one in (row.figure, row.value, row.expected, row.verdict))} |"
            for row in results[step.module]
        ]
        lines += ["", f"{seconds[step.module]:.0f} s", ""]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return "".join(sign if sign.isprintable() else " " for sign in text).replace("|", "\\|")


def main(words: Sequence[str] | None = None) -> int:
    """Run the parts; return 0, or 1 where a figure is not as expected or a part failed."""
    parser = argparse.ArgumentParser(prog="gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("gpu-report"), help="folder of the page (default: gpu-report)")
    parser.add_argument("--only", default="", help=f"comma-separated parts: {','.join(step.module for step in STEPS)}")
    parser.add_argument("--device", choices=("auto", "cpu"), default="auto", help="cpu: leave the card alone")
    parser.add_argument("--seconds", type=float, default=TOTAL_SECONDS, help="of all parts together")
    options = parser.parse_args(words)
    wanted = [word for word in options.only.split(",") if word] or [step.module for step in STEPS]
    if unknown := set(wanted) - {step.module for step in STEPS}:
        parser.error(f"unknown part {', '.join(sorted(unknown))}")
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="paceline-gpu-") as mount:
        package = Path(mount) / "paceline"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "engine").symlink_to(ROOT / "engine")
        places = [mount, str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(places), "PYTHONDONTWRITEBYTECODE": "1"}
        return measure_all(options, [step for step in STEPS if step.module in wanted], environment)


def measure_all(options: argparse.Namespace, steps: Sequence[Step], environment: dict[str, str]) -> int:
    """Run the parts one after another and rewrite the page after each."""
    start = time.monotonic()
    facts = machine(environment)
    device = "cpu" if options.device == "cpu" else facts["device"]
    facts["device"] = device
    results: dict[str, list[Row]] = {}
    seconds: dict[str, float] = {}
    write(options.out, facts, results, seconds)
    for step in steps:
        begun = time.monotonic()
        left = options.seconds - (begun - start)
        if left < LEAST_SECONDS:
            results[step.module] = [Row(step.module, "the whole part", f"{options.seconds:.0f} s were over", "", UNMEASURED)]
        else:
            results[step.module], log = run_step(
                step, device, min(step.seconds * (1.0 if device == "cuda" else CPU_PATIENCE), left), environment
            )
            (options.out / f"{step.module}.log").write_text(log + "\n")
        seconds[step.module] = time.monotonic() - begun
        write(options.out, facts, results, seconds)
        for row in results[step.module]:
            print(
                f"{row.verdict:<12}  {step.module:<10}  {row.figure}: {row.value}"
                + (f"  ({row.expected})" if row.expected else ""),
                flush=True,
            )
    print(f"{options.out / 'page.md'}: {time.monotonic() - start:.0f} s", flush=True)
    return int(any(row.verdict in (LOOK, FAILED) for rows in results.values() for row in rows))


def write(out: Path, facts: dict[str, str], results: dict[str, list[Row]], seconds: dict[str, float]) -> None:
    """Write page.md and rows.json, each aside and renamed: a run that is ended leaves the last whole page."""
    rows = [vars(row) for found in results.values() for row in found]
    for name, text in (
        ("page.md", page(facts, results, seconds)),
        ("rows.json", json.dumps({"machine": facts, "rows": rows}, indent=1)),
    ):
        aside = out / f".{name}"
        aside.write_text(text + "\n")
        aside.replace(out / name)


if __name__ == "__main__":
    sys.exit(main())
