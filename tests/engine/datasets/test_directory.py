"""A prepared directory appears whole or not at all, whatever ends the preparation, and what a killed one left is removed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paceline.engine.datasets import prepare
from paceline.engine.datasets.directory import DataDirectory, is_whole
from paceline.engine.datasets.export import export
from paceline.engine.errors import DataRefused, Interrupted, StorageFailed, UsageError

MANIFEST: dict[str, Any] = {"kind": "images", "dataset": "mine"}


@given(chunks=st.lists(st.integers(0, 30), min_size=1, max_size=6), shard=st.sampled_from([0, 24, 100, 4096]))
@settings(deadline=None, max_examples=20)
def test_appended_rows_are_the_array_in_one_file_or_in_shards(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[int], shard: int
) -> None:
    x = np.arange(sum(chunks) * 3, dtype=np.float32).reshape(-1, 3)
    with DataDirectory(tmp_path_factory.mktemp("data"), shard) as directory:
        start = 0
        for size in chunks:
            directory.append("train_x", x[start : start + size])
            start += size
        assert directory.rows("train_x") == len(x)
        _, path = directory.finish(MANIFEST)
    files = sorted(path.glob("train_x*.npy"))
    found = np.concatenate([np.load(file) for file in files]) if files else x[:0]
    assert (found == x).all()
    assert is_whole(path)
    if shard and len(x):
        assert all(file.stat().st_size <= max(shard, 12) + 128 for file in files)


def test_the_end_of_a_preparation_at_any_moment_leaves_nothing(tmp_path: Path) -> None:
    """Every call of ``check`` interrupts once."""
    options = {"train": 40, "validation": 10}
    for last in range(1000):
        calls = 0

        def check(last: int = last) -> None:
            nonlocal calls
            calls += 1
            if calls > last:
                raise Interrupted("by a person")

        try:
            prepare("synthetic-images", None, tmp_path, options={**options, "shape": "1x28x28"}, check=check)
        except Interrupted:
            assert list(tmp_path.iterdir()) == []
            continue
        break
    assert last > 5
    assert len([entry for entry in tmp_path.iterdir() if not entry.name.startswith(".")]) == 1


@pytest.mark.slow
def test_what_a_killed_preparation_left_is_removed_by_the_next_one_and_a_living_one_stays(tmp_path: Path) -> None:
    program = """
import sys, time
from pathlib import Path
import numpy as np
from paceline.engine.datasets.directory import DataDirectory
with DataDirectory(Path(sys.argv[1])) as directory:
    directory.append("train_x", np.zeros((1000, 60)))
    print("written", flush=True)
    time.sleep(60)
"""
    running = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    for one in running:
        assert one.stdout is not None
        assert one.stdout.readline() == "written\n"
    assert len(list(tmp_path.glob(".preparing-*"))) == 2
    running[0].send_signal(signal.SIGKILL)
    running[0].wait()
    prepare("synthetic-series", None, tmp_path)
    assert len(list(tmp_path.glob(".preparing-*"))) == 1
    running[1].send_signal(signal.SIGINT)  # Ctrl-C
    running[1].wait()
    assert not list(tmp_path.glob(".preparing-*"))
    for one in running:
        assert one.stdout is not None
        one.stdout.close()


@pytest.mark.slow
def test_rows_of_another_kind_objects_and_a_full_disk_are_refused(tmp_path: Path) -> None:
    with DataDirectory(tmp_path) as directory:
        directory.append("train_x", np.zeros((2, 3), dtype=np.float32))
        for rows, text in ((np.zeros((2, 4), dtype=np.float32), "rows of train_x"), (np.array([None]), "Python objects")):
            with pytest.raises(DataRefused, match=text):
                directory.append("train_x", rows)
    program = """
import resource, sys
from pathlib import Path
from paceline.engine.datasets import prepare
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    prepare("synthetic-images", None, Path(sys.argv[1]), options={"train": 500, "validation": 50})
except Exception as error:
    sys.stdout.write(f"{type(error).__name__}: {error}")
"""
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path / "data")], capture_output=True, text=True, check=True)
    assert ended.stdout.startswith("StorageFailed: cannot write ")
    assert "File too large" in ended.stdout
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize("harm", ["cut", "changed", "missing", "no manifest"])
def test_a_broken_prepared_directory_is_replaced(tmp_path: Path, harm: str) -> None:
    plan, path = prepare("synthetic-text", None, tmp_path, options={"train": 100, "validation": 20})
    victim = path / ("manifest.json" if harm == "no manifest" else "train_x.npy")
    whole = victim.read_bytes()
    match harm:
        case "cut":
            victim.write_bytes(whole[:-100])
        case "changed":
            victim.write_bytes(whole[:-1] + b"\7")
        case _:
            victim.unlink()
    assert prepare("synthetic-text", None, tmp_path, options={"train": 100, "validation": 20}) == (plan, path)
    assert victim.read_bytes() == whole


@pytest.mark.parametrize("part", ["train", "validation"])
def test_an_empty_part_is_refused(tmp_path: Path, part: str) -> None:
    with pytest.raises(DataRefused, match=f"its {part} part is empty"):
        prepare("synthetic-images", None, tmp_path, options={"train": 10, "validation": 10, part: 0})
    assert list(tmp_path.iterdir()) == []


def test_an_export_replaces_an_older_one_and_never_other_files(tmp_path: Path) -> None:
    _, path = prepare("synthetic-images", None, tmp_path / "data", options={"train": 10, "validation": 5})
    _, other = prepare("synthetic-images", None, tmp_path / "data", options={"train": 12, "validation": 5})
    for one in (path, other):
        export(one, tmp_path / "out")
        assert is_whole(tmp_path / "out", (one / "manifest.json").read_bytes())
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/thesis.tex").write_text("x")
    for target, error, text in ((tmp_path / "precious", UsageError, "holds other files"), (tmp_path / "out/x" / "y", None, "")):
        if error is not None:
            with pytest.raises(error, match=text):
                export(path, target)
        else:
            export(path, target)
    assert (tmp_path / "precious/thesis.tex").read_text() == "x"
    if os.getuid() != 0:
        (tmp_path / "closed").mkdir(mode=0o500)
        with pytest.raises(StorageFailed, match="cannot write"):
            export(path, tmp_path / "closed" / "out")


@pytest.mark.slow
def test_two_preparations_at_once_give_one_directory(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from paceline.engine.datasets import prepare
print(prepare("synthetic-pairs", None, Path({str(tmp_path)!r}), options={{"train": 300, "validation": 30}})[0].digest)
"""
    running = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    digests = {one.communicate()[0].strip() for one in running}
    assert all(one.returncode == 0 for one in running)
    assert {entry.name for entry in tmp_path.iterdir()} == {*digests, ".prepared"}
    (digest,) = digests
    assert json.loads((tmp_path / digest / "manifest.json").read_text())["kind"] == "translation"
