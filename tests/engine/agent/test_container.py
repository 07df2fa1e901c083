"""The command lines of docker, podman and apptainer: same user, same processes, GPUs passed on, no secret in sight."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from paceline.engine.agent.system.container import container_command, container_name, find_runtime, removal_command
from paceline.engine.errors import WorkFailed

from tests.support.runs.runners import Lab


def words(runtime: str, image: str = "lab/torch:2.6", has_gpu: bool = True) -> list[str]:
    return container_command(
        runtime,
        image,
        ["python3", "-m", "paceline.engine.training.launcher", "/s/runs/r1", "n1"],
        name=container_name("r1", "n1"),
        directory="/s/runs/r1/work",
        mounts=["/s", "/tmp", "/s/data"],
        variables=["TOKEN", "PATH", "PYTHONPATH"],
        has_gpu=has_gpu,
    )


@pytest.mark.parametrize("runtime", ["docker", "podman"])
def test_a_container_is_a_file_system_and_no_wall(runtime: str) -> None:
    line = words(runtime)

    text = " ".join(line)
    for shared in ("--network host", "--pid host", "--ipc host", "--cap-drop ALL", "--read-only", "--name paceline-r1-n1"):
        assert shared in text
    assert [line[i + 1] for i, word in enumerate(line) if word == "--volume"] == ["/s:/s", "/tmp:/tmp"]
    assert [line[i + 1] for i, word in enumerate(line) if word == "--env"] == ["PYTHONPATH", "TOKEN"]
    assert (
        line[-6:] == ["lab/torch:2.6", "-m", "paceline.engine.training.launcher", "/s/runs/r1", "n1"][-6:]
        or line[-5] == "lab/torch:2.6"
    )
    assert line[line.index("--entrypoint") + 1] == "python3"


def test_each_runtime_passes_gpus_in_its_own_way_and_only_where_there_are_any() -> None:
    assert "--gpus all" in " ".join(words("docker"))
    assert "--device nvidia.com/gpu=all" in " ".join(words("podman"))
    assert "--nv" in words("apptainer")
    assert not {"--gpus", "--device", "--nv"} & {
        word for one in ("docker", "podman", "apptainer") for word in words(one, has_gpu=False)
    }


def test_files_belong_to_the_user_who_starts_the_run() -> None:
    assert f"--user {os.getuid()}:{os.getgid()}" in " ".join(words("docker"))
    assert "--userns keep-id" in " ".join(words("podman"))


def test_apptainer_takes_files_and_names_of_images() -> None:
    assert "docker://lab/torch:2.6" in words("apptainer")
    assert "/images/torch.sif" in words("apptainer", "/images/torch.sif")
    assert words("apptainer")[-5:][0] == "python3"


def test_the_first_runtime_that_is_there_is_taken_and_none_is_named() -> None:
    assert find_runtime("a", lambda name: name if name in ("docker", "apptainer") else None) == "docker"
    assert find_runtime("a.sif", lambda name: name) == "apptainer"
    with pytest.raises(WorkFailed, match="needs one of podman, docker"):
        find_runtime("a", lambda name: None)
    assert removal_command("docker", "x") == ["docker", "rm", "--force", "x"]
    assert removal_command("apptainer", "x") == []


async def test_a_run_of_a_node_with_an_image_runs_in_a_container_that_goes_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that plays podman notes how it was called, and runs the command."""
    podman = tmp_path / "bin" / "podman"
    podman.parent.mkdir()
    podman.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n[ "$1" = rm ] || exit 0\n')
    podman.chmod(0o755)
    monkeypatch.setenv("PATH", f"{podman.parent}:{os.environ['PATH']}")
    lab = Lab(tmp_path / "lab", ["exit 0"])
    lab.plan = replace(lab.plan, nodes=(replace(lab.plan.nodes[0], image="lab/torch:2.6"),))

    await lab.start()
    ended = await lab.until(0, "exit.json")

    calls = (tmp_path / "calls").read_text().splitlines()
    assert ended["state"] == "done"
    assert "run --rm" in calls[0]
    assert "lab/torch:2.6" in calls[0]
    assert calls[-1] == f"rm --force paceline-{lab.plan.run_id}-n0"
