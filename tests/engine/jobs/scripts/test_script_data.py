"""A script's data by name: what its source asks for is found before it runs, and what the launch gives stands under its name."""

from __future__ import annotations

import ast
import os
import random
from pathlib import Path

import pytest
from paceline.engine.agent.runs.work_dir import link_data
from paceline.engine.errors import UsageError
from paceline.engine.jobs.launch.job_file import read_job_file
from paceline.engine.jobs.scripts.data_calls import asked_data_sets
from paceline.engine.jobs.scripts.data_sets import NamedData, named_data
from paceline.engine.jobs.scripts.folder import read_folder
from paceline.engine.jobs.scripts.packaged import packaged_script
from paceline.engine.jobs.scripts.project import read_project
from paceline.engine.plan import DataPlan, Plan, ScriptPlan
from paceline.engine.wire import from_plain, to_plain

IMPORTS = {
    "import paceline": "paceline.{call}",
    "import paceline as p": "p.{call}",
    "from paceline import dataset, manifest": "{call}",
    "from paceline import dataset as d, manifest as m": "{short}",
}
NAMES = ["digits", "sp500", "agnews", "agnews-large"]


def asked(*sources: str, args: tuple[str, ...] = ()) -> tuple[str, ...]:
    return asked_data_sets([ast.parse(source) for source in sources], args)


def test_every_literal_name_is_found_however_the_library_is_imported(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(50):
        expected, sources = [], []
        for _ in range(rng.randrange(1, 4)):
            line, form = rng.choice(list(IMPORTS.items()))
            name, function = rng.choice(NAMES), rng.choice(["dataset", "manifest"])
            given = rng.choice([f"{name!r}", f"name={name!r}"])
            use = form.format(call=f"{function}({given})", short=f"{function[0]}({given})")
            body = rng.choice(["{}", "def f():\n    return {}", "class C:\n    x = [{}]", "if f('main'):\n    print({})"])
            sources.append(f"{line}\n{body.format(use)}\n")
            expected.append(name)
        assert asked(*sources) == tuple(dict.fromkeys(expected))


@pytest.mark.parametrize(
    ("source", "args", "expected"),
    [
        ("import paceline\npaceline.dataset(o.dataset)", ("--dataset", "sp500", "--lr", "1"), ("sp500",)),
        ("import paceline\npaceline.dataset(o.dataset)", ("--dataset=sp500",), ("sp500",)),
        ("import paceline\no = paceline.options(dataset='digits')\npaceline.dataset(o.dataset)", (), ("digits",)),
        ("import paceline\np.add_argument('--dataset', default='digits')\npaceline.dataset(o.dataset)", (), ("digits",)),
        ("import paceline\npaceline.dataset(name)", (), ()),
        ("from datasets import dataset\ndataset('digits')", (), ()),
        ("import other\nother.dataset('digits')\nself.dataset('digits')", ("--dataset", "mine"), ()),
    ],
)
def test_a_computed_name_is_that_of_the_arguments_or_of_the_parser(source: str, args: tuple[str, ...], expected: object) -> None:
    assert asked(source, args=args) == expected


def test_a_given_word_is_a_data_set_or_a_folder_and_names_are_unique(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "digits").mkdir()
    found = named_data(("digits", "./images", "mine=images"), ("sp500", "images"), tmp_path)
    folder = tmp_path / "images"
    assert found == (NamedData("digits"), NamedData("images", folder), NamedData("mine", folder), NamedData("sp500"))
    assert (found[0].name, found[0].folder) == ("digits", None)
    for given, asked_names, text in [
        (("./images", "images=digits"), (), "given twice"),
        (("imagse",), (), "neither a data set nor a folder"),
        (("a b=images",), (), "no name for data"),
        ((), ("cifar",), "which there is not"),
    ]:
        with pytest.raises(UsageError, match=text):
            named_data(given, asked_names, tmp_path)


def test_the_digest_of_a_folder_is_that_of_its_content_and_is_computed_once(tmp_path: Path) -> None:
    folder, kept = tmp_path / "images", tmp_path / "kept"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "1.png").write_bytes(b"one")
    (folder / "2.png").write_bytes(b"two")
    reads: list[int] = []
    first = read_folder("images", folder, kept, lambda: reads.append(1))
    assert (first.rows, first.name, len(reads)) == (2, "images", 2)
    assert read_folder("images", folder, kept, lambda: reads.append(1)) == first
    assert len(reads) == 2
    (folder / "2.png").write_bytes(b"twO")
    os.utime(folder / "2.png", ns=(1, 1))
    assert read_folder("images", folder, kept).digest != first.digest
    for wrong in (folder / "2.png", folder / "none"):
        with pytest.raises(UsageError, match=r"is a file|no such directory"):
            read_folder("images", wrong, kept)


def test_folders_of_a_job_file_are_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    job = tmp_path / "job.toml"
    job.write_text('script = "train.py"\ndata = ["digits", "images", "more=../else"]\n')
    assert read_job_file(job)["data"] == ["digits", str(tmp_path / "images"), f"more={tmp_path}/../else"]


def test_on_a_node_the_data_stand_under_their_names_and_older_plans_have_none(tmp_path: Path) -> None:
    data = (DataPlan("d1", "digits", 5, "d1", name="digits"),)
    script = ScriptPlan(target="train.py", args=(), digest="0", data=data)
    plan = Plan("run", "train.py", (), (), (), DataPlan("p", "", 0, ""), epochs=0, global_batch_size=0, script=script)
    assert from_plain(Plan, to_plain(plan)) == plan
    (tmp_path / "data" / "d1").mkdir(parents=True)
    (tmp_path / "data" / "d1" / "manifest.json").write_text("{}")
    (tmp_path / "run").mkdir()
    environment = link_data(tmp_path / "run", plan, tmp_path / "data")
    assert (Path(environment["PACELINE_DATA"]) / "digits" / "manifest.json").exists()
    plain = to_plain(plan)
    del plain["script"]["data"]
    assert link_data(tmp_path / "run", from_plain(Plan, plain), tmp_path / "data") == {}


def test_a_packaged_script_is_a_project_of_one_file_under_the_name_of_its_workload(tmp_path: Path) -> None:
    script = packaged_script("digits-cnn", ("--epochs", "2"), workload="digits-cnn")
    project = read_project(script, tmp_path)
    assert (project.target, script.name, list(project.files)) == ("digits_cnn.py", "digits-cnn", ["digits_cnn.py"])
    assert asked(project.program.decode()) == ("digits",)
    for wrong in ("nothing", "../digits_cnn", "__init__"):
        with pytest.raises(UsageError, match="there is no script"):
            packaged_script(wrong, workload="x")
