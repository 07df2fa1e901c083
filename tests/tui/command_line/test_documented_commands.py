"""Every command of README, guide and pages does what it says, on an embedded lab: a new one without a row here fails."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.installed import needs
from tests.support.runs.labs import NODE
from tests.tui.command_line.test_promises import DOCUMENTS, commands_of

pytestmark = needs("torch", "sklearn")

SMALL = "--epochs 1 --global-batch-size 64"
NOT_HERE = {
    "paceline train --devices hpc": "a cluster of Slurm: tests/integration/test_slurm.py",
    "paceline data sp500 --ticker AAPL --years 10 --multiply 100 --out prices": "the network: tests/engine/datasets",
    "paceline --plain": "a terminal that is talked to: tests/tui/command_line/test_cli.py",
    "paceline --welcome": "a terminal that is talked to: tests/tui/screens",
    "paceline --cast FILE": "a terminal that is filmed: tests/tui/terminal",
    "paceline train --devices k8s": "a cluster of Kubernetes: tests/engine/kubernetes",
    "paceline setup --kubernetes": "a cluster of Kubernetes: tests/engine/kubernetes",
    "paceline demo NAME": "takes minutes: tests/engine/demo",
    "paceline replay NAME": "a screen; its file is replayed below",
    "paceline replay FILE": "a screen; its file is replayed below",
    "paceline attach RUN": "a screen that stays; headless below",
}
STORY: list[tuple[str, str, int]] = [
    ("paceline example digits-cnn > train.py", "example digits-cnn > train.py", 0),
    ("paceline status", "status", 0),
    ("paceline --batch --json VERB", "--json status", 0),
    ("paceline plan", "plan", 0),
    ("paceline profile", "profile", 0),
    ("paceline advise", "advise", 0),
    ("paceline train", f"train {SMALL}", 0),
    ("paceline train --devices auto", f"train --devices auto {SMALL}", 0),
    ("paceline train night.toml", "train night.toml", 0),
    ("paceline train --on-end 'notify-send \"run over\"'", f"train --on-end 'touch ended' {SMALL}", 0),
    (
        "paceline train --workload digits-cnn --policy hybrid --epochs 8",
        "train --workload digits-cnn --policy hybrid --epochs 2",
        0,
    ),
    ("paceline train --workload sp500-mlp --csv prices.csv", f"train --workload sp500-mlp --csv prices.csv {SMALL}", 0),
    ("paceline train --workload agnews-small --csv train.csv", f"train --workload agnews-small --csv train.csv {SMALL}", 0),
    ("paceline train --workload agnews-small --devices auto", "plan --workload agnews-small --devices lab1", 0),
    ("paceline train --model resnet50 --dataset cifar10", f"train --model resnet50 --dataset cifar10 {SMALL}", 4),
    ("paceline train --min-devices 2", f"train --min-devices 2 {SMALL}", 0),
    ("paceline train --min-devices 2 --spare lab4", f"train --min-devices 2 --spare lab4 --devices lab1,lab2 {SMALL}", 0),
    ("paceline drain lab3", "drain lab3", 2),  # no run is there to leave
    ("paceline grow RUN", "grow last", 2),  # it has ended
    ("paceline jobs", "jobs", 0),
    ("paceline logs RUN", "logs last", 0),
    ("paceline attach RUN", "attach last", 0),
    ("paceline cancel RUN", "cancel last", 0),
    ("paceline fetch RUN", "fetch last", 0),
    ("paceline fetch RUN checkpoints", "fetch last checkpoints", 0),
    ("paceline fetch RUN checkpoints '*.pt'", "fetch last checkpoints '*.pt' --to fetched", 0),
    ("paceline resume", "resume last --epochs 2", 0),
    ("paceline resume RUN", "resume last --epochs 3", 0),
    ("paceline resume RUN --devices lab1,lab2", "resume last --devices lab1,lab2 --epochs 4", 0),
    ("paceline train SCRIPT.py --epochs 10", "train train.py --epochs 1", 0),
    ("paceline profile SCRIPT.py", "profile train.py", 0),
    (
        "paceline train --data digits --data ./images SCRIPT.py --root {images}",
        "train --data digits --data ./images seen.py --root {images}",
        0,
    ),
    ("paceline bench", f"bench --policies equal,hybrid --name first {SMALL}", 0),
    ("paceline --plain bench", f"bench --policies hybrid --name second {SMALL}", 0),
    ("paceline bench --policies equal,hybrid --global-batch-size 512", "plan --global-batch-size 512", 0),
    ("paceline bench --repeats 5", f"bench --policies equal,hybrid --repeats 2 {SMALL}", 0),
    ("paceline --record FILE bench", f"--record bench.jsonl bench --policies equal,hybrid {SMALL}", 0),
    ("paceline --batch replay FILE", "replay bench.jsonl", 0),
    (
        "paceline picture FILE.svg --of RECORDING --at StragglerFound --screen alerts",
        "picture run.svg --of bench.jsonl --screen run",
        0,
    ),
    ("paceline suite --workloads digits-cnn,agnews-small", "suite --workloads digits-cnn --policies equal,hybrid --quick", 0),
    ("paceline suite lab.toml", "suite lab.toml", 0),
    ("paceline scale --name lab --repeats 3", f"scale --name lab --devices lab1,lab2 {SMALL}", 0),
    ("paceline scale --resume lab", "scale --resume lab", 0),
    ("paceline scale --links wifi,lan --workload agnews-small", f"scale --links wifi,lan --devices lab1,lab2 {SMALL}", 0),
    ("paceline report lab", "report lab", 0),
    ("paceline report first second --to tensorboard", "report first second --to tensorboard", 0),
    ("paceline report first second --like two-devices", "report first second --like two-devices", 0),
    ("paceline compare A B", "compare first second", 0),
    ("paceline replay A B", "replay bench.jsonl bench.jsonl", 0),
    ("paceline search", "search --epochs 1 --grid lr=0.01,0.001", 0),
    (
        "paceline search --model simple-cnn --dataset digits --grid lr=0.01,0.001 --grid width=16,32",
        "search --model simple-cnn --dataset digits --grid width=16,32 --epochs 1",
        0,
    ),
    (
        "paceline search --grid lr=0.1,0.01 --metric accuracy --direction max train.py --lr {lr}",
        "search --grid lr=0.1,0.01 --metric accuracy --direction max train.py --epochs 1 --lr {lr}",
        0,
    ),
    (
        "paceline search --tpe 24 --grid lr=0.0001..0.1 --grid hidden-dim=32..256",
        "search --tpe 3 --grid lr=0.0001..0.1 --grid hidden-dim=32..256 --epochs 1",
        0,
    ),
    (
        "paceline search --halving 27 --grid lr=0.0001..0.1 --sequential",
        "search --halving 3 --grid lr=0.0001..0.1 --sequential --epochs 3",
        0,
    ),
    ("paceline fit --memory 600MB --repeats 3", "fit --memory 900MB --multipliers 1,10", 0),
    ("paceline data", "data", 0),
    ("paceline data agnews train.csv test.csv --length 128", "data agnews train.csv test.csv --length 32", 0),
    ("paceline kill atlas 4711", "kill lab1 4194304", 2),  # no such process
    ("paceline export job.toml", "export job.toml", 0),
    ("paceline export job.toml --out deploy/job", "export job.toml --out deploy/job", 0),
    ("paceline export job.toml --as pytorchjob", "export job.toml --as pytorchjob", 0),
    ("paceline export --grid lr=0.1,0.01 --grid layers=2,3", "export --grid lr=0.1,0.01 --grid layers=2,3", 0),
    ("paceline clean", "clean", 0),
    ("paceline clean --older-than 30 --yes", "clean --older-than 30 --yes", 0),
]
"""What a document says, what is executed instead, smaller, and its exit status."""


def prepare(place: Path) -> None:
    """A lab of four nodes, and the files that the documents' commands name."""
    speeds = {"lab1": 60.0, "lab2": 40.0, "lab3": 20.0, "lab4": 20.0}
    (place / "nodes.toml").write_text(
        "".join(NODE.format(name=name, device=f"d{name}", speed=speed) for name, speed in speeds.items())
    )
    (place / "night.toml").write_text('workload = "digits-cnn"\nepochs = 1\n')
    (place / "job.toml").write_text('workload = "digits-cnn"\nepochs = 1\n')
    (place / "lab.toml").write_text('workloads = ["digits-cnn"]\npolicies = ["equal", "hybrid"]\nrepeats = 1\nepochs = 1\n')
    days = [f"20{10 + day // 336:02}-{day // 28 % 12 + 1:02}-{day % 28 + 1:02}" for day in range(900)]
    (place / "prices.csv").write_text(
        "Date,Close\n" + "".join(f"{day},{1000 + n % 37 + n / 10:.2f}\n" for n, day in enumerate(days))
    )
    rows = [
        f'{n % 4 + 1},"title {n} of topic {n % 4}","words that speak of {["sea", "hill", "road", "town"][n % 4]} number {n}"\n'
        for n in range(400)
    ]
    (place / "train.csv").write_text("".join(rows))
    (place / "test.csv").write_text("".join(rows[:60]).replace("title", "headline").replace("speak", "tell"))
    (place / "images").mkdir()
    (place / "images" / "one.txt").write_text("1")
    (place / "seen.py").write_text(
        "import argparse, pathlib\np = argparse.ArgumentParser()\np.add_argument('--root')\n"
        "print(sorted(x.name for x in pathlib.Path(p.parse_args().root).iterdir()))\n"
    )


def test_every_documented_command_has_its_row() -> None:
    documented = {command for page in DOCUMENTS for command in commands_of(page.read_text(encoding="utf-8"))}
    assert documented - {row[0] for row in STORY} - NOT_HERE.keys() == set()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_documented_commands_do_what_they_say_one_after_the_other(tmp_path: Path) -> None:
    prepare(tmp_path)
    faults = []
    for documented, typed, status in STORY:
        words, _, target = typed.partition(" > ")
        command = [sys.executable, "-m", "paceline.tui", "--batch", *shlex.split(words)]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        )
        if target:
            (tmp_path / target).write_text(done.stdout)
        lines = done.stderr.strip().splitlines()
        print(f"{done.returncode} {typed}", flush=True)
        if done.returncode != status or "Traceback" in done.stderr or "a bug in" in done.stderr:
            faults.append(f"{documented}: {typed}: {done.returncode} instead of {status}: {lines[-1:]}")
    assert faults == []
