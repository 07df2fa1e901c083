"""The project of a script: which files travel with it to the nodes, packed once per digest of their content.

In a git checkout these are the files that git does not ignore. Elsewhere it is the directory of the script without hidden files,
``logs``, ``data``, caches and environments. docs/design/scripts.md says why.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ...datasets.storage import is_intact, write_directory
from ...errors import StorageFailed, UsageError
from ...protocol.json_files import read_json
from ...protocol.project_files import FILES, MANIFEST
from ...specs import ScriptSpec
from .packaged import read_packaged

MAX_PROJECT_BYTES = 100 << 20
MAX_PROJECT_FILES = 20_000
READ_ATTEMPTS = 5
"""Attempts to read a file that another program writes meanwhile."""
SKIPPED_DIRECTORIES = frozenset({"logs", "data", "__pycache__", "node_modules", "venv", "env", "build", "dist", "site-packages"})
"""Directories that stay behind outside a git checkout, beside hidden ones and environments."""
GIT_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Project:
    """The files of a script as they were read, and where its program starts among them."""

    root: Path
    """At the centre."""
    files: dict[str, bytes]
    """Content by path below the root, in the notation of POSIX."""
    executables: frozenset[str]
    """Paths of the files that may be executed."""
    target: str
    """Path of the script below the root, or the name of the module."""
    workdir: str
    """Working directory below the root."""

    @property
    def digest(self) -> str:
        """Of all names and contents, 64 hexadecimal digits."""
        digest = hashlib.sha256()
        for name, content in sorted(self.files.items()):
            digest.update(f"{len(name)} {len(content)} {name in self.executables}\n{name}\n".encode("utf-8", "surrogateescape"))
            digest.update(content)
        return digest.hexdigest()

    @property
    def program(self) -> bytes:
        """Content of the script; empty for a module that the project does not hold."""
        if self.target in self.files:
            return self.files[self.target]
        module = PurePosixPath(self.workdir, *self.target.split("."))
        candidates = (f"{module}.py", f"{module}/__main__.py")
        return next((self.files[name] for name in candidates if name in self.files), b"")


def read_project(script: ScriptSpec, here: Path) -> Project:
    """Read the files that travel with a script. ``here``: the current directory of the person.

    Raises UsageError where the script is missing or the project is too large, StorageFailed where a file cannot be read.
    """
    if script.is_packaged:
        return Project(Path("paceline"), {script.path: read_packaged(script.path)}, frozenset(), script.path, ".")
    path = here if script.is_module else (here / Path(script.path).expanduser())
    if not script.is_module and not path.is_file():
        what = "is a directory" if path.is_dir() else "no such file"
        raise UsageError(f"cannot train {script.path}: {what}", hint="name a Python file, or a module with -m")
    start = path if script.is_module else path.resolve().parent
    if script.workdir is not None:
        root = (here / Path(script.workdir).expanduser()).resolve()
        if not root.is_dir():
            raise UsageError(f"--workdir {script.workdir}: no such directory")
        if not script.is_module and not path.resolve().is_relative_to(root):
            raise UsageError(f"--workdir {script.workdir} does not hold {script.path}", hint="name a directory above the script")
        names = _git_files(root)
    else:
        checkout = _git_root(start)
        root = checkout or start.resolve()
        names = _git_files(root) if checkout else None
    names = list(_walk(root)) if names is None else names
    target = script.path if script.is_module else path.resolve().relative_to(root).as_posix()
    if not script.is_module and target not in names:
        names.append(target)  # a script that git ignores is named by the person all the same
    workdir = here.resolve().relative_to(root).as_posix() if here.resolve().is_relative_to(root) else "."
    files, executables = _read_files(root, sorted(set(names)))
    return Project(root, files, executables, target, workdir)


def pack_project(project: Project, directory: Path) -> Path:
    """Write the files and their manifest to ``directory/<digest>``, complete or not at all; returns that path.

    Raises StorageFailed.
    """
    path = directory / project.digest
    entries = {name: {"size": len(content), "executable": name in project.executables} for name, content in project.files.items()}
    files = {f"{FILES}/{name}": content for name, content in project.files.items()}
    files[MANIFEST] = json.dumps({"files": entries}, indent=0).encode()
    if not is_intact(path, files):
        write_directory(path, files)
    return path


def read_packed(path: Path, target: str, workdir: str) -> Project | None:
    """A project as it was packed once; None where it is not here whole any more."""
    entries = (read_json(path / MANIFEST) or {}).get("files")
    if not isinstance(entries, dict):
        return None
    try:
        files = {name: (path / FILES / name).read_bytes() for name in entries}
    except OSError:
        return None
    project = Project(path, files, frozenset(name for name, entry in entries.items() if entry.get("executable")), target, workdir)
    return project if project.digest == path.name else None


def _read_files(root: Path, names: list[str]) -> tuple[dict[str, bytes], frozenset[str]]:
    """Content of all regular files, and the names of the executable ones."""
    if len(names) > MAX_PROJECT_FILES:
        raise _too_large(root, f"{len(names):,} files, {MAX_PROJECT_FILES:,} at most", names)
    files: dict[str, bytes] = {}
    executables = set()
    size = 0
    for name in names:
        path = root / name
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                continue  # a submodule, a socket, a pipe
            size += status.st_size
            if size > MAX_PROJECT_BYTES:
                raise _too_large(root, f"more than {MAX_PROJECT_BYTES >> 20} MiB", names)
            files[name] = _read_stable(path)
        except FileNotFoundError:
            continue  # deleted since it was listed, or a link to nothing
        except OSError as error:
            raise StorageFailed(f"cannot read {path}: {error.strerror or error}") from None
        if status.st_mode & stat.S_IXUSR:
            executables.add(name)
    return files, frozenset(executables)


def _read_stable(path: Path) -> bytes:
    """The content of a file that does not change while it is read. Raises StorageFailed where it never stops."""
    for _ in range(READ_ATTEMPTS):
        before = path.stat()
        content = path.read_bytes()
        after = path.stat()
        if (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size) and len(content) == after.st_size:
            return content
    raise StorageFailed(f"{path} changes while it is read", hint="wait until it is written, or let git ignore it")


def _too_large(root: Path, what: str, names: list[str]) -> UsageError:
    sizes = sorted(((path.stat().st_size, name) for name in names if (path := root / name).is_file()), reverse=True)[:3]
    largest = ", ".join(f"{name} ({size / 2**20:.1f} MiB)" for size, name in sizes)
    hint = "let git ignore what the nodes do not need, or name a smaller directory with --workdir; data go by paths of the nodes"
    return UsageError(f"the project {root} is too large: {what}; largest: {largest}", hint=hint)


def _git_root(directory: Path) -> Path | None:
    """The top of the git checkout that holds a directory; None outside one, or without git."""
    output = _git(directory, "rev-parse", "--show-toplevel")
    return Path(os.fsdecode(output.rstrip(b"\n"))) if output else None


def _git_files(root: Path) -> list[str] | None:
    """The files below a directory that git does not ignore; None outside a checkout, or without git."""
    output = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    return None if output is None else [os.fsdecode(name) for name in output.split(b"\0") if name]


def _git(directory: Path, *words: str) -> bytes | None:
    try:
        command = ["git", "-C", str(directory), *words]
        done = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL, timeout=GIT_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _walk(root: Path) -> Iterator[str]:
    """The files below a directory, without those that stay behind outside a checkout."""
    for above, directories, names in os.walk(root):
        folder = Path(above)
        directories[:] = sorted(name for name in directories if _travels(folder / name))
        for name in sorted(names):
            if not name.startswith(".") and not name.endswith((".pyc", ".pyo")):
                yield (folder / name).relative_to(root).as_posix()


def _travels(directory: Path) -> bool:
    is_environment = (directory / "pyvenv.cfg").exists() or (directory / "conda-meta").is_dir()
    return not (directory.name.startswith(".") or directory.name in SKIPPED_DIRECTORIES or is_environment)
