"""What lies in deploy/: rules for the Dockerfile and the compose file, and an image built and run where buildah can."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

CHECKOUT = Path(__file__).parents[1]
DEPLOY = CHECKOUT / "deploy"
INSTRUCTIONS = {"FROM", "ARG", "ENV", "RUN", "COPY", "WORKDIR", "USER", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
HOST = re.compile(r"^[\w-]+(\.[\w-]+)+(:\d+)?/")
"""An image name that begins with the host of a registry."""
SMALLEST_BASE = ("python3", "python3-venv", "ca-certificates")


def instructions(text: str) -> list[tuple[str, str]]:
    """Word and rest of every instruction; continued lines are joined."""
    joined = re.sub(r"\\\n", " ", text)
    lines = [line.strip() for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def faults(text: str) -> list[str]:
    """What is wrong with a Dockerfile."""
    found = []
    stages: list[list[tuple[str, str]]] = []
    for word, rest in instructions(text):
        if word not in INSTRUCTIONS:
            found.append(f"{word} is not wanted: COPY does what ADD does, and no more")
        if word == "FROM":
            stages.append([])
            image = rest.split()[0]
            if HOST.match(image) or image.endswith(":latest"):
                found.append(f"FROM {image}: no host, and a tag that stays")
        base = re.match(r"BASE=(\S+)", rest) if word == "ARG" else None
        if base is not None and (HOST.match(base[1]) or re.search(r":[\w.]*\d", base[1]) is None):
            found.append(f"the base {base[1]}: no host, and a tag that stays")
        if word in ("ENTRYPOINT", "CMD") and not rest.startswith("["):
            found.append(f"{word} starts a shell, which passes no signal on")
        if word == "HEALTHCHECK" and "CMD [" not in rest:
            found.append("a health check in a shell")
        if word == "RUN":
            if "apt-get install" in rest and ("--no-install-recommends" not in rest or "/var/lib/apt/lists" not in rest):
                found.append("apt-get leaves lists, or brings what nobody asked for")
            if re.search(r"(curl|wget)[^|&]*\|", rest) or "sudo" in rest.split():
                found.append("a script from the network, or sudo")
        if stages:
            stages[-1].append((word, rest))
    users = [rest for word, rest in stages[-2] if word == "USER"] if len(stages) > 1 else []
    if len(stages) < 2 or not any(word == "COPY" and rest.startswith("--from=") for stage in stages for word, rest in stage):
        found.append("one stage only")
    for stage in stages[1:-1]:
        own = [rest for word, rest in stage if word == "USER"]
        if not own or own[-1].split(":")[0] in ("root", "0"):
            found.append("a stage ends as root")
        if not any(word == "HEALTHCHECK" for word, _ in stage):
            found.append("a stage without a health check")
    return found if users or found else ["no user"]


def test_the_dockerfile_keeps_the_rules() -> None:
    assert faults((DEPLOY / "Dockerfile").read_text()) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("USER 1000:1000", "USER root", "as root"),
        ('ENTRYPOINT ["paceline"]', "ENTRYPOINT paceline", "shell"),
        ("python:3.12-slim-bookworm", "python:latest", "tag that stays"),
        ("ARG BASE=", "ARG BASE=registry.example/", "no host"),
        (" --no-install-recommends", "", "apt-get"),
        ("COPY . .", "ADD . .", "ADD is not wanted"),
        ("RUN python3 -m venv", "RUN curl -s x | sh && python3 -m venv", "from the network"),
    ],
)
def test_a_dockerfile_that_breaks_a_rule_is_noticed(old: str, new: str, fault: str) -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    assert old in text
    assert any(fault in one for one in faults(text.replace(old, new)))


def test_the_compose_file_is_a_lab_of_four_nodes_that_publishes_nothing() -> None:
    document = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services: dict[str, Any] = document["services"]
    nodes = [name for name in services if name.startswith("node")]

    assert len(nodes) == 4
    assert all("ports" not in service and not HOST.match(service["image"]) for service in services.values())
    for name in nodes:
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
    mounted = {volume.partition(":")[0] for service in services.values() for volume in service["volumes"]}
    assert {name for name in mounted if not name.startswith(".")} == document["volumes"].keys()
    assert all((DEPLOY / name).exists() for name in mounted if name.startswith("."))
    assert set(services["centre"]["depends_on"]) == set(nodes)


def test_the_nodes_of_the_compose_file_are_those_of_its_nodes_toml() -> None:
    from paceline.engine.inventory.nodes_file import read_inventory

    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    inventory = read_inventory(DEPLOY / "lab" / "nodes.toml")

    assert [node.host for node in inventory.nodes] == [name for name in services if name.startswith("node")]
    assert [node.devices[0].name for node in inventory.nodes] == ["RTX 3060", "RTX 3050", "GTX 1650", "GTX 1650"]


def test_scripts_of_deploy_are_valid_shell_and_name_no_host() -> None:
    for path in DEPLOY.rglob("*.sh"):
        assert subprocess.run(["sh", "-n", str(path)], check=False).returncode == 0
        assert "://" not in path.read_text()


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    """Buildah with storage of its own. Skips where it cannot build."""
    if shutil.which("buildah") is None or os.geteuid() != 0:
        pytest.skip("no buildah here, or not root: apt-get install buildah")
    if shutil.which("debootstrap") is None and shutil.which("mmdebstrap") is None:
        pytest.skip("no base image: no registry is reached, and neither debootstrap nor mmdebstrap is here")
    tool = Buildah(tmp_path_factory.mktemp("buildah"))
    yield tool
    tool.close()


class Buildah:
    """Builds and runs images without a daemon, in a directory of its own."""

    def __init__(self, place: Path) -> None:
        self.place = place
        (place / "storage.conf").write_text(f'[storage]\ndriver = "vfs"\nrunroot = "{place}/run"\ngraphroot = "{place}/graph"\n')
        (place / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        self.environment = {**os.environ, "CONTAINERS_STORAGE_CONF": str(place / "storage.conf"), "BUILDAH_ISOLATION": "chroot"}

    def __call__(self, *words: str, check: bool = True) -> str:
        command = ["buildah", *words]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, timeout=600)
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(words[:3])}: {done.stderr[-2000:]}")
        return done.stdout.strip()

    def base(self) -> str:
        """An image with Debian's Python, from the package mirror of this machine."""
        root = self.place / "root"
        packages = ",".join(SMALLEST_BASE)
        command = (
            ["mmdebstrap", "--variant=minbase", f"--include={packages}", "bookworm", str(root)]
            if shutil.which("mmdebstrap")
            else ["debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", str(root)]
        )
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        if done.returncode != 0:
            pytest.skip(f"no base image: {done.stdout[-300:]} {done.stderr[-300:]}")
        container = self("from", "scratch")
        self("add", container, str(root), "/")
        self("commit", "--format", "docker", container, "localhost/base:1")
        shutil.rmtree(root)
        return "localhost/base:1"

    def close(self) -> None:
        self("rm", "--all", check=False)
        self("rmi", "--all", "--force", check=False)
        shutil.rmtree(self.place, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_an_image_is_built_and_runs_the_control_centre_as_a_user_without_rights(buildah: Buildah, tmp_path: Path) -> None:
    if sys.version_info[:2] != (3, 11):
        pytest.skip("wheels of this Python are not those of the base, Debian's 3.11")
    base = buildah.base()
    context = tmp_path / "context"
    for folder in ("engine", "tui", "deploy"):
        shutil.copytree(CHECKOUT / folder, context / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "constraints.txt", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, context)
    wheels = context / "deploy" / "wheels"
    download = [sys.executable, "-m", "pip", "wheel", "-q", "-w", str(wheels), "-c", str(CHECKOUT / "constraints.txt")]
    needed = ["setuptools>=77", "wheel", ".[kubernetes]"]
    done = subprocess.run([*download, *needed], cwd=context, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode != 0:
        pytest.skip(f"no wheels: {done.stderr[-300:]}")

    words = ["bud", "--pull-never", "--format", "docker", "--isolation", "chroot", "-f", str(context / "deploy" / "Dockerfile")]
    buildah(*words, "--build-arg", f"BASE={base}", "--build-arg", "VARIANT=centre", "-t", "localhost/paceline:centre", str(context))
    shown = json.loads(buildah("inspect", "--type", "image", "localhost/paceline:centre"))
    container = buildah("from", "--pull-never", "localhost/paceline:centre")
    run = ["run", "--isolation", "chroot", container, "--"]
    uid = buildah(*run, "id", "-u")
    version = buildah(*run, "/opt/paceline/bin/paceline", "--version")
    nodes = '[[node]]\nname = "away"\nhost = "127.0.0.1"\nport = 1\n'
    script = (
        f"cd /work && printf '%s' '{nodes}' > nodes.toml && HOME=/work /opt/paceline/bin/paceline --batch --json status; echo $?"
    )
    answer, status = buildah(*run, "sh", "-c", script).rsplit("\n", 1)
    size = sum(
        path.stat().st_size for path in Path(buildah("mount", container)).rglob("*") if path.is_file() and not path.is_symlink()
    )
    print(f"image: {size / 2**20:.0f} MiB with its base, uid {uid}, {version}")

    assert shown["Docker"]["config"]["User"] == "1000:1000"
    assert shown["Docker"]["config"]["Healthcheck"]["Test"][0] == "CMD"
    assert uid == "1000"
    assert version.startswith("paceline ")
    assert [node["name"] for node in json.loads(answer)["nodes"]] == ["away"]
    assert status == "3"  # nobody listens at that node
    assert size < 600 * 2**20
