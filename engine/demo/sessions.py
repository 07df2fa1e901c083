"""The demo sessions by their names, and where their labs and recordings lie. Imports the standard library only."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..errors import StorageFailed

SESSIONS = {
    "policies": "four ways to share a batch between unlike devices, and what each is worth",
    "straggler": "a device clocks down: it is found, named, and its work goes to the others",
    "advice": "a group that would be slower than one device is foreseen, and avoided",
    "loss": "a node loses its power in the middle of a run, which goes on, and gets it back",
    "search": "hyperparameters tried on unlike devices, each trial on one of them",
    "script": "a training script that nobody changed is balanced as it runs",
}
"""What there is to see, by name: the folders of ``engine/demo/scripts``."""
SCRIPTS = Path(__file__).with_name("scripts")
SESSION_FILE = "session.toml"


def lab_directory(name: str, checkout: Path, state: Path) -> Path:
    """The directory of a session's lab: in the checkout, else in the state directory of a person who installed a package."""
    root = checkout / "logs" if (checkout / "nodes.toml").exists() else state
    return root / "demo" / name


def prepare_lab(name: str, directory: Path) -> Path:
    """Write the files of a session into its lab, over those of an earlier one; returns its nodes.toml. Raises StorageFailed."""
    try:
        shutil.copytree(SCRIPTS / name, directory, dirs_exist_ok=True, copy_function=shutil.copyfile)
    except OSError as error:  # shutil.Error, of several files, is one too
        raise StorageFailed(f"cannot write the lab {directory}: {error.strerror or error}") from None
    return directory / "nodes.toml"


def embedded_lab(checkout: Path, state: Path) -> Path:
    """The nodes.toml of the embedded lab: that of the checkout, else one in the state directory. Raises StorageFailed."""
    shipped = checkout / "nodes.toml"
    return shipped if shipped.exists() else prepare_lab("policies", lab_directory("policies", checkout, state))


def find_recording(path: Path, checkout: Path) -> Path:
    """The recording that a person means: a file, else the kept one of the session of that name, else the path as it was given."""
    if path.is_file() or path.name != str(path):
        return path
    kept = sorted(one for one in (checkout / "data" / "demo").glob("*.*") if one.stem == path.name)
    return kept[0] if kept else path
