"""Scripts on a real embedded lab: an unchanged one is balanced and its file comes home; odd ones end in one clear line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from tests.support.runs.labs import LabDirectory

pytestmark = pytest.mark.slow

PLAIN = """
import argparse, torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, required=True)
epochs = parser.parse_args().epochs
dist.init_process_group("gloo")
torch.manual_seed(0)
x = torch.randn(2000, 20)
data = TensorDataset(x, (x[:, 0] > 0).long())
sampler = DistributedSampler(data)
loader = DataLoader(data, batch_size=50, sampler=sampler)
model = DistributedDataParallel(nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 2)))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(epochs):
    sampler.set_epoch(epoch)
    for inputs, targets in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
if dist.get_rank() == 0:
    torch.save(model.module.state_dict(), "model.pt")
dist.destroy_process_group()
"""
WITH_DATA = """
import sys, paceline
from pathlib import Path
run = paceline.init()
training, validation = paceline.dataset("digits")
notes = sorted(path.name for path in Path(sys.argv[1]).iterdir())
print(f"rank {run.rank} sees {len(training)} digits and {notes}", flush=True)
"""
KEEPING = """
import os, sys, torch, paceline
from torch import nn

torch.set_default_dtype(torch.float64)
run = paceline.init(seed=0)
x = torch.randn(400, 10, generator=torch.Generator().manual_seed(1))
rows = torch.utils.data.TensorDataset(x, (x[:, :1] > 0).double())
model = run.wrap(nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 1)))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
loader = run.loader(rows, 50, shuffle=True)
run.keep(model=model, optimizer=optimizer)
for epoch in run.epochs(4):
    for step, (inputs, targets) in enumerate(loader):
        if epoch == 2 and step == 5 and os.path.exists(sys.argv[1]):
            raise RuntimeError("a power cut")
        nn.functional.mse_loss(model(inputs), targets).backward()
        optimizer.step()
        optimizer.zero_grad()
weights = sum(float(weight.detach().abs().sum()) for weight in model.parameters())
run.print(f"weights {weights!r} on {run.world_size}")
"""
OWN_LOGIC = """
import os, sys
if os.path.exists("kept.txt"):
    print("goes on from", open("kept.txt").read())
    sys.exit()
if os.environ["RANK"] == "0":
    open("kept.txt", "w").write("epoch 3")
sys.exit(9)
"""
GROUP = "import os, sys, torch.distributed as dist\ndist.init_process_group('gloo')\n"
OVER_AGAIN = "        nn.functional.cross_entropy(model(inputs), targets).backward()\n"
AVERAGED = """        loss = nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        shown = loss.detach().clone()
        dist.all_reduce(shown)
"""
ODD = {
    "no training": ("print('hello')", 0, "the script ended without an epoch that could be seen"),
    "exit status": (GROUP + "if dist.get_rank() == 1:\n    os._exit(7)\ndist.barrier()", 1, "rank 1 on n1 (slow): exit status 7"),
    "an error": (GROUP + "if dist.get_rank() == 1:\n    raise ValueError('mine')\ndist.barrier()", 1, "ValueError: mine"),
    "an early end": (
        GROUP + "if dist.get_rank() == 1:\n    sys.exit()\ndist.barrier()",
        1,
        "rank 1 had ended while",
    ),
    "a fork": ("import os\nif not os.fork():\n    import time\n    time.sleep(1000)", 0, "without an epoch"),
    "much output": ("for _ in range(400_000):\n    print('x' * 99)", 0, "without an epoch"),
}
"""Program, exit status, and what the document says."""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabDirectory]:
    lab = LabDirectory(tmp_path, {"fast": 4.0, "slow": 1.0})
    yield lab
    lab.end_runs()


def test_an_unchanged_script_is_balanced_and_only_what_it_wrote_is_fetched(lab: LabDirectory) -> None:
    (lab.path / "train.py").write_text(PLAIN)
    (lab.path / "helper.py").write_text("unused = True\n")
    status, document = lab.run("train", "train.py", "--epochs", "4")
    assert status == 0, lab.narration()
    assert document["balance"] == {"state": "balanced", "door": "torch", "loss": "mean", "reason": None}
    assert document["global_batch_size"] == 100
    assert abs(document["local_batch_sizes"][0] - 80) <= 4
    assert document["stragglers"] == []
    assert len(document["epochs"]) == 4
    status, fetched = lab.run("fetch", document["run_id"])
    assert [file["name"] for file in fetched["files"]] == ["work/model.pt"]


def test_data_sets_by_name_and_folders_stand_on_every_node(lab: LabDirectory) -> None:
    (lab.path / "notes").mkdir()
    (lab.path / "notes" / "one.txt").write_text("1")
    (lab.path / "code").mkdir()
    (lab.path / "code" / "train.py").write_text(WITH_DATA)
    for _ in range(2):  # pushed once: the second launch finds them
        status, document = lab.run("train", "--data", "./notes", "code/train.py", "{notes}")
        assert status == 0, lab.narration()
        held = [sorted(os.listdir(lab.node(name) / "data")) for name in ("n0", "n1")]
        status, logs = lab.run("logs", document["run_id"], "--grep", "rank . sees")
        said = sorted(line["text"] for line in logs["lines"])
        assert said == [f"rank {rank} sees 1438 digits and ['one.txt']" for rank in range(2)]
        assert document["data"]["rows"] == 1797
    assert [len(names) for names in held] == [3, 3], held  # project, digits, notes


def test_a_bench_of_a_script_compares_policies_by_runs_of_their_own(lab: LabDirectory) -> None:
    (lab.path / "train.py").write_text(PLAIN)
    status, document = lab.run("bench", "--policies", "equal,hybrid", "train.py", "--epochs", "4")
    assert status == 0, lab.narration()
    assert [case["policy"] for case in document["cases"]] == ["equal", "hybrid"]
    _, hybrid = document["cases"]
    assert hybrid["speedup_over_equal"] > 1.3
    assert len(document["runs"]) == len(document["standalone_runs"]) == 2
    rates = hybrid["standalone_samples_per_second"]
    assert 3.5 < rates[0] / rates[1] < 4.5, rates
    assert 0.85 < hybrid["balance_efficiency"] < 1.05
    assert document["emulated_rate"] is not None


def test_a_profile_runs_the_first_steps_leaves_no_files_and_hybrid_starts_by_it(lab: LabDirectory) -> None:
    code = lab.path / "code"
    code.mkdir()
    (code / "train.py").write_text(PLAIN)
    before = sorted(os.listdir(code))
    status, planned = lab.run("plan", "code/train.py", "--epochs", "3")
    assert (status, planned["emulated_rate"]) == (0, None)
    assert planned["cases"][0]["predicted_samples_per_second"] is None
    status, profile = lab.run("profile", "code/train.py", "--epochs", "3")
    assert status == 0, lab.narration()
    seconds = [device["fit"]["a"] + device["fit"]["c"] * 50 for device in profile["devices"]]
    assert 3.7 < seconds[1] / seconds[0] < 4.3, profile["devices"]
    assert [list((lab.node(name) / "runs").glob("*/work")) for name in ("n0", "n1")] == [[], []]
    assert sorted(os.listdir(code)) == before
    status, advice = lab.run("advise", "code/train.py", "--epochs", "3")
    assert (status, advice["global_batch_size"]) == (0, 100)
    status, document = lab.run("train", "code/train.py", "--epochs", "3")
    assert status == 0, lab.narration()
    assert "step 2: 50/50" not in lab.narration()
    assert document["changes"] == 0  # 80/20 from the first balanced batch
    assert document["emulated_rate"] is not None
    assert abs(document["prediction_error"]) < 0.15
    assert lab.narration().count("starts with equal shares and learns") == 0


def test_a_script_that_averages_its_metrics_over_ranks_is_told_once_what_they_are(lab: LabDirectory) -> None:
    (lab.path / "code").mkdir()
    (lab.path / "code" / "train.py").write_text(PLAIN.replace(OVER_AGAIN, AVERAGED))
    status, document = lab.run(
        "train", "--name", "averages", "--on-end", "echo $PACELINE_STATE > ended", "code/train.py", "--epochs", "2"
    )
    assert status == 0, lab.narration()
    assert document["balance"]["state"] == "balanced"
    _, logs = lab.run("logs", "averages", "--grep", "mean of means")
    assert len(logs["lines"]) == 1
    assert (lab.path / "ended").read_text() == "done\n"
    status, attached = lab.run("attach", "averages")
    assert (status, attached["metrics"]) == (0, {})


def test_a_module_that_one_node_lacks_is_named_and_nothing_is_started(lab: LabDirectory) -> None:
    (lab.path / "here").mkdir()
    (lab.path / "here" / "only_here.py").write_text("")
    nodes = lab.path / "nodes.toml"
    there = f'name = "n0"\nenv = {{ PYTHONPATH = "{lab.path / "here"}" }}'
    nodes.write_text(nodes.read_text().replace('name = "n0"', there, 1))
    (lab.path / "code").mkdir()
    (lab.path / "code" / "train.py").write_text("import only_here\n")
    status, _ = lab.run("train", "code/train.py")
    assert status == 5
    assert "n1 lacks only_here" in lab.narration()
    assert "n0 lacks" not in lab.narration()
    assert not (lab.path / "logs" / "runs").exists() or not list((lab.path / "logs" / "runs").iterdir())


def test_a_cancelled_script_leaves_no_process(lab: LabDirectory) -> None:
    (lab.path / "code").mkdir()
    (lab.path / "code" / "train.py").write_text(
        "import subprocess, time\nsubprocess.Popen(['sleep', '900'])\nprint('sleeps')\ntime.sleep(900)\n"
    )
    process = lab.start("train", "code/train.py")
    lab.wait_for("starting torchrun", process)
    run_id = lab.run_id()
    status, cancelled = lab.run("cancel", run_id)
    assert (status, cancelled["state"], cancelled["survivors"]) == (0, "cancelled", [])
    process.communicate()
    assert process.returncode == 1
    assert lab.marked(run_id) == []


def weights_of(lab: LabDirectory, run_id: str) -> float:
    _, logs = lab.run("logs", run_id, "--grep", "weights")
    return float(logs["lines"][0]["text"].split()[1])


def test_a_script_on_the_library_goes_on_in_the_middle_of_an_epoch_on_other_devices(lab: LabDirectory) -> None:
    nodes = lab.path / "nodes.toml"
    nodes.write_text(
        nodes.read_text()
        .replace("speed = 4.0", 'speed = 4.0, rate = "4000/s"')
        .replace("speed = 1.0", 'speed = 1.0, rate = "1000/s"')
    )
    (lab.path / "code").mkdir()
    script = lab.path / "code" / "train.py"
    script.write_text(KEEPING)
    cut = lab.path / "cut"
    words = ("train", "--checkpoint-every", "3 steps", "code/train.py", str(cut))
    status, whole = lab.run(*words)
    assert status == 0, lab.narration()
    cut.touch()
    status, broken = lab.run(*words)
    assert status == 1, lab.narration()
    assert "a power cut" in broken["reason"]
    cut.unlink()
    status, resumed = lab.run("resume", broken["run_id"], "--devices", "n1")
    assert status == 0, lab.narration()
    assert resumed["resumed_from"] == {"run_id": broken["run_id"], "epoch": 2, "step": 19}
    assert [epoch["epoch"] for epoch in resumed["epochs"]] == [3, 4]
    assert weights_of(lab, resumed["run_id"]) == pytest.approx(weights_of(lab, whole["run_id"]), rel=1e-12)
    script.write_text(KEEPING + "# changed\n")
    status, _ = lab.run("resume", broken["run_id"])
    assert status == 2, lab.narration()
    assert "is not what it was when the run began" in lab.narration()
    script.unlink()  # what was packed then is still here
    status, again = lab.run("resume", broken["run_id"])
    assert status == 0, lab.narration()
    status, fetched = lab.run("fetch", again["run_id"], "checkpoints")
    assert any(file["name"].endswith(".pt") for file in fetched["files"])


def test_a_script_with_its_own_files_begins_again_beside_them(lab: LabDirectory) -> None:
    (lab.path / "code").mkdir()
    (lab.path / "code" / "train.py").write_text(OWN_LOGIC)
    status, first = lab.run("train", "code/train.py")
    assert status == 1, lab.narration()
    status, second = lab.run("resume", first["run_id"])
    assert status == 0, lab.narration()
    assert "begins again with the 1 file that it had written" in lab.narration()
    _, logs = lab.run("logs", second["run_id"], "--grep", "goes on")
    assert [line["text"] for line in logs["lines"]] == ["goes on from epoch 3"] * 2


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_script_ends_in_one_clear_line_and_leaves_nothing(lab: LabDirectory, kind: str) -> None:
    program, expected, text = ODD[kind]
    (lab.path / "odd.py").write_text(dedent(program) + "\n")
    status, document = lab.run("train", "odd.py")
    assert status == expected, lab.narration()
    assert text in (document["reason"] or "") or any(text in warning for warning in document["warnings"])
    assert lab.marked(document["run_id"]) == []
