"""A script that ran before: read again, compared, taken from its packed project, and begun again beside its own files."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from paceline.engine.agent.runs.artifacts import list_files
from paceline.engine.agent.runs.work_dir import make_work_dir
from paceline.engine.errors import UsageError
from paceline.engine.jobs.scripts.carry import _merge
from paceline.engine.jobs.scripts.prepare import PreparedScript, prepare_script
from paceline.engine.plan import DataPlan, Plan, ScriptPlan
from paceline.engine.specs import ScriptSpec, TrainSpec
from paceline.engine.wire import from_plain, to_plain


def prepared(script: ScriptSpec, packed: Path) -> PreparedScript:
    return asyncio.run(prepare_script(TrainSpec(script=script), packed))


def test_a_script_is_read_again_where_it_was_asked_for_and_a_change_needs_consent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "code").mkdir()
    train = tmp_path / "code" / "train.py"
    train.write_text("first = 1\n")
    monkeypatch.chdir(tmp_path)
    asked = prepared(ScriptSpec("code/train.py", ("--lr", "1")), tmp_path / "packed").spec
    spec = from_plain(TrainSpec, json.loads(json.dumps(to_plain(asked))))  # as a node keeps it
    assert spec.script is not None
    monkeypatch.chdir("/")
    assert prepared(spec.script, tmp_path / "packed").spec.script == spec.script
    train.write_text("second = 2\n")
    with pytest.raises(UsageError, match="is not what it was"):
        prepared(spec.script, tmp_path / "packed")
    agreed = prepared(from_plain(ScriptSpec, {**to_plain(spec.script), "may_change": True}), tmp_path / "packed").spec.script
    assert agreed is not None
    assert agreed.digest != spec.script.digest
    train.unlink()
    assert prepared(spec.script, tmp_path / "packed").project.digest == spec.script.project
    with pytest.raises(UsageError, match="no such file"):
        prepared(spec.script, tmp_path / "elsewhere")


def test_files_of_the_run_before_lie_beside_the_project_and_those_of_rank_0_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "train.py").write_text("pass\n")
    (tmp_path / "code" / "state.json").write_text("{}")
    for node in ("n0", "n1"):
        (tmp_path / node / "out").mkdir(parents=True)
        (tmp_path / node / "state.json").write_text(node)
        (tmp_path / node / "out" / f"{node}.txt").write_text(node)
    assert _merge([tmp_path / "n0", tmp_path / "n1", tmp_path / "none"], tmp_path / "carried") == 3
    monkeypatch.chdir(tmp_path / "code")
    script = prepared(ScriptSpec("train.py"), tmp_path / "node" / "data")
    (tmp_path / "carried").rename(tmp_path / "node" / "data" / "c0ffee")
    carried = DataPlan("c0ffee", "", 3, "c0ffee", name="carried")
    planned = ScriptPlan(target="train.py", args=(), digest="0", carried=carried)
    plan = Plan("run", "train.py", (), (), (), script.project, epochs=0, global_batch_size=0, program="script", script=planned)
    run = tmp_path / "run"
    run.mkdir()
    work = make_work_dir(run, plan, tmp_path / "node" / "data")
    assert (work / "state.json").read_text() == "n0"
    assert (work / "out" / "n1.txt").read_text() == "n1"
    names = [entry["name"] for entry in list_files(run)["entries"]]
    assert names == ["work/out/n0.txt", "work/out/n1.txt", "work/state.json"]
