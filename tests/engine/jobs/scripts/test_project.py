"""Which files of a project travel with a script, and that they arrive whole or not at all."""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path

import pytest
from paceline.engine.agent.runs.artifacts import list_files
from paceline.engine.agent.runs.work_dir import make_work_dir
from paceline.engine.errors import StorageFailed, UsageError, WorkFailed
from paceline.engine.jobs.scripts import project as projects
from paceline.engine.jobs.scripts.imports import read_modules
from paceline.engine.jobs.scripts.project import pack_project, read_project
from paceline.engine.plan import DataPlan, Plan, ScriptPlan
from paceline.engine.protocol.project_files import FILES
from paceline.engine.specs import ScriptSpec


def write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"# {name}\n")


def git(root: Path, *words: str) -> None:
    subprocess.run(["git", "-C", str(root), *words], check=True, capture_output=True)


def plan_of(project: projects.Project) -> Plan:
    data = DataPlan(digest=project.digest, source="project", rows=0, sha256=project.digest)
    script = ScriptPlan(target=project.target, args=(), digest="0", workdir=project.workdir)
    return Plan("run", "train.py", (), (), (), data, epochs=0, global_batch_size=0, program="script", script=script)


def test_outside_a_checkout_hidden_files_logs_data_caches_and_environments_stay(tmp_path: Path) -> None:
    write(tmp_path, "train.py", "net/model.py", "net/__pycache__/model.pyc", ".env", ".cache/x", "logs/a.txt", "data/rows.bin")
    write(tmp_path, "lab/pyvenv.cfg", "lab/bin/python", "conda/conda-meta/history", "old.pyc", "config.yaml")
    project = read_project(ScriptSpec("train.py"), tmp_path)
    assert sorted(project.files) == ["config.yaml", "net/model.py", "train.py"]
    assert (project.target, project.workdir) == ("train.py", ".")


def test_in_a_checkout_travels_what_git_does_not_ignore(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    write(tmp_path, "src/train.py", "src/new.py", ".hidden.toml", "secret.key", "data/small.csv", "deleted.py")
    (tmp_path / ".gitignore").write_text("*.key\n")
    git(tmp_path, "add", "-A")
    (tmp_path / "deleted.py").unlink()
    write(tmp_path, "src/untracked.py")
    project = read_project(ScriptSpec("train.py"), tmp_path / "src")
    expected = [".gitignore", ".hidden.toml", "data/small.csv", "src/new.py", "src/train.py", "src/untracked.py"]
    assert sorted(project.files) == expected
    assert (project.target, project.workdir) == ("src/train.py", "src")


def test_a_script_that_git_ignores_travels_because_it_was_named(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    write(tmp_path, "train.py")
    (tmp_path / ".gitignore").write_text("train.py\n")
    assert "train.py" in read_project(ScriptSpec("train.py"), tmp_path).files


def test_a_named_directory_is_the_project_and_must_hold_the_script(tmp_path: Path) -> None:
    write(tmp_path, "a/b/train.py", "a/lib.py", "other/x.py")
    project = read_project(ScriptSpec("a/b/train.py", workdir="a"), tmp_path)
    assert (sorted(project.files), project.target, project.workdir) == (["b/train.py", "lib.py"], "b/train.py", ".")
    with pytest.raises(UsageError, match="does not hold"):
        read_project(ScriptSpec("a/b/train.py", workdir="other"), tmp_path)
    with pytest.raises(UsageError, match="no such directory"):
        read_project(ScriptSpec("a/b/train.py", workdir="nowhere"), tmp_path)


@pytest.mark.parametrize(("path", "reason"), [("nothing.py", "no such file"), ("folder.py", "is a directory")])
def test_a_missing_script_is_named(tmp_path: Path, path: str, reason: str) -> None:
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(UsageError, match=reason):
        read_project(ScriptSpec(path), tmp_path)


def test_a_project_that_is_too_large_names_the_limit_and_its_largest_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projects, "MAX_PROJECT_BYTES", 1 << 20)
    write(tmp_path, "train.py")
    (tmp_path / "weights.bin").write_bytes(bytes(2 << 20))
    with pytest.raises(UsageError, match=r"more than 1 MiB; largest: weights.bin \(2.0 MiB\)"):
        read_project(ScriptSpec("train.py"), tmp_path)
    monkeypatch.setattr(projects, "MAX_PROJECT_FILES", 1)
    with pytest.raises(UsageError, match="2 files, 1 at most"):
        read_project(ScriptSpec("train.py"), tmp_path)


def test_a_file_that_changes_while_it_is_read_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "train.py")
    read_bytes, writes = Path.read_bytes, iter([b"one", b"two, longer"])

    def read_and_write(path: Path) -> bytes:
        content = read_bytes(path)
        if (text := next(writes, None)) is not None:
            path.write_bytes(text)
        return content

    monkeypatch.setattr(Path, "read_bytes", read_and_write)
    assert read_project(ScriptSpec("train.py"), tmp_path).files["train.py"] == b"two, longer"
    writes = iter([bytes(length) for length in range(10, 30)])
    with pytest.raises(StorageFailed, match="changes while it is read"):
        read_project(ScriptSpec("train.py"), tmp_path)


def test_random_projects_arrive_byte_for_byte_with_their_modes(tmp_path: Path, seed: int) -> None:
    generator = random.Random(seed)
    root = tmp_path / "project"
    names = {f"{generator.choice('abc')}/{generator.choice(('x', 'ü', 'with space'))}{n}" for n in range(20)} | {"train.py"}
    for name in names:
        write(root, name)
        (root / name).write_bytes(generator.randbytes(generator.randrange(5000)))
        (root / name).chmod(generator.choice((0o644, 0o755)))
    (root / "train.py").write_text("pass\n")
    project = read_project(ScriptSpec("train.py"), root)
    packed = pack_project(project, tmp_path / "data")
    assert packed.name == project.digest == read_project(ScriptSpec("train.py"), root).digest
    run = tmp_path / "run"
    run.mkdir()
    work = make_work_dir(run, plan_of(project), tmp_path / "data")
    for name in names:
        assert (work / name).read_bytes() == (root / name).read_bytes()
        assert os.access(work / name, os.X_OK) == os.access(root / name, os.X_OK)
    assert list_files(run)["entries"] == []
    (work / "train.py").write_text("changed\n")
    (work / "model.pt").write_text("weights\n")
    assert [entry["name"] for entry in list_files(run)["entries"]] == ["work/model.pt", "work/train.py"]
    (root / "train.py").chmod(0o755 if "train.py" not in project.executables else 0o644)
    assert read_project(ScriptSpec("train.py"), root).digest != project.digest


def test_a_project_without_its_manifest_is_not_started(tmp_path: Path) -> None:
    write(tmp_path / "project", "train.py")
    project = read_project(ScriptSpec("train.py"), tmp_path / "project")
    packed = pack_project(project, tmp_path / "data")
    (packed / "manifest.json").write_text(json.dumps({}))
    (tmp_path / "run").mkdir()
    with pytest.raises(WorkFailed, match="not whole"):
        make_work_dir(tmp_path / "run", plan_of(project), tmp_path / "data")
    assert (packed / FILES / "train.py").exists()


def test_required_modules_are_those_that_are_always_imported_from_outside() -> None:
    files = {
        "src/train.py": b"import os, torch\nfrom net import Net\nimport lib.tools as t\nimport paceline\n"
        b"try:\n    import wandb\nexcept ImportError:\n    wandb = None\n",
        "src/net/__init__.py": b"from .layers import Layer\nimport numpy\n",
        "src/net/layers.py": b"import einops\nimport train\n",
        "lib/tools.py": b"import pandas.core\nbroken = \n",
        "unused.py": b"import never\n",
    }
    assert read_modules(files, files["src/train.py"], "src")[1] == ("einops", "numpy", "torch")
