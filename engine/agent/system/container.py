"""The command line that runs a run's programs in a container of docker, podman or apptainer. Pure but for ``find_runtime``.

The container is a file system, not a wall: it shares processes, network and memory with the machine, so that the runner finds,
measures and ends its processes as it does without one. They belong to the same user.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterable, Sequence

from ...errors import WorkFailed

RUNTIMES = ("podman", "docker", "apptainer", "singularity")
"""In this order: without a daemon first; apptainer where clusters have nothing else."""
IMAGE_SUFFIX = ".sif"
"""Of an image that is a file, which apptainer alone runs."""
PASSED = ("PATH", "HOME", "LD_LIBRARY_PATH", "PWD", "SHELL", "HOSTNAME")
"""Variables that the image sets itself."""
PYTHON = "python3"
"""Interpreter in an image."""


def find_runtime(image: str, which: Callable[[str], str | None] = shutil.which) -> str:
    """The program that runs an image here. Raises WorkFailed where there is none."""
    wanted = RUNTIMES[2:] if image.endswith(IMAGE_SUFFIX) else RUNTIMES
    for name in wanted:
        if which(name) is not None:
            return name
    reason = f"the image {image} needs one of {', '.join(wanted)}, and there is none here"
    raise WorkFailed(reason, hint="install one of them, or take image out of nodes.toml")


def container_name(run_id: str, node: str) -> str:
    """Name of the container of a run on a node."""
    return f"paceline-{run_id}-{node}"


def container_command(
    runtime: str,
    image: str,
    command: Sequence[str],
    *,
    name: str,
    directory: str,
    mounts: Iterable[str],
    variables: Collection[str],
    has_gpu: bool,
) -> list[str]:
    """The words that run a command in an image. ``mounts``: directories, at the same place inside; ``variables``: names passed on.

    Values of variables do not stand on the command line, which every user of the machine sees.
    """
    shared = sorted({os.path.normpath(path) for path in (*mounts, directory)})
    outer = [path for path in shared if not any(path.startswith(other.rstrip("/") + "/") for other in shared if other != path)]
    passed = sorted(set(variables) - set(PASSED))
    if runtime in ("apptainer", "singularity"):
        source = image if image.endswith(IMAGE_SUFFIX) or "://" in image else f"docker://{image}"
        binds = [word for path in outer for word in ("--bind", path)]
        return [runtime, "exec", *(["--nv"] if has_gpu else []), "--no-home", *binds, "--pwd", directory, source, *command]
    words = [runtime, "run", "--rm", "--init", "--name", name, "--network", "host", "--pid", "host", "--ipc", "host"]
    if runtime == "podman":
        words += ["--userns", "keep-id", *(["--device", "nvidia.com/gpu=all"] if has_gpu else [])]
    else:
        words += ["--user", f"{os.getuid()}:{os.getgid()}", *(["--gpus", "all"] if has_gpu else [])]
    words += ["--security-opt", "no-new-privileges", "--cap-drop", "ALL", "--read-only"]
    words += [word for path in outer for word in ("--volume", f"{path}:{path}")]
    words += [word for variable in passed for word in ("--env", variable)]
    return [*words, "--workdir", directory, "--entrypoint", command[0], image, *command[1:]]


def removal_command(runtime: str, name: str) -> list[str]:
    """The words that remove a container, whatever state it is in; empty for a runtime that keeps none."""
    return [runtime, "rm", "--force", name] if runtime in ("docker", "podman") else []
