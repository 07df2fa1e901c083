"""The simulated driver as tests and benchmarks hold it: built once by cc, changed by lines, counted by function."""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
from pathlib import Path

LIBRARY = "libnvidia-ml.so.1"
"""By this name NVIDIA's own would be found."""
_RECORD = struct.Struct("<56sQ")
_BOARD_BYTES = _RECORD.size * 256


def compiler() -> str | None:
    """The C compiler of this machine; None where there is none."""
    return shutil.which("cc")


def build(directory: Path) -> Path:
    """Compile the library into ``directory``, which then belongs on LD_LIBRARY_PATH."""
    source = Path(__file__).with_name("nvml.c")
    flags = [
        "-std=gnu11",
        "-O2",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-fvisibility=hidden",
        "-shared",
        "-fPIC",
        f"-Wl,-soname,{LIBRARY}",
    ]
    subprocess.run([compiler() or "cc", *flags, "-o", str(directory / LIBRARY), str(source), "-lm"], check=True)
    return directory


class Driver:
    """What the devices of one simulation do. A process that runs with ``env`` sees every change at its next call."""

    def __init__(self, library: Path, directory: Path, *lines: str) -> None:
        self._library, self._directory = library, directory
        (directory / "board").write_bytes(bytes(_BOARD_BYTES))
        with (directory / "board").open("r+b") as file:
            self._board = mmap.mmap(file.fileno(), _BOARD_BYTES)
        self.set(*lines)

    @property
    def env(self) -> dict[str, str]:
        """Variables that put a process in front of these devices."""
        return {"LD_LIBRARY_PATH": str(self._library), "SIMULATED_NVML": str(self._directory)}

    def set(self, *lines: str) -> None:
        """From now on these lines hold, and no others; nvml.c says what they mean."""
        fresh = self._directory / "control.new"
        fresh.write_text("".join(f"{line}\n" for line in lines), errors="surrogateescape")
        fresh.rename(self._directory / "control")
        (version,) = struct.unpack_from("<Q", self._board)
        struct.pack_into("<Q", self._board, 0, version + 1)

    def calls(self) -> dict[str, int]:
        """How often each function was called, by everyone."""
        records = (_RECORD.unpack_from(self._board, place) for place in range(_RECORD.size, _BOARD_BYTES, _RECORD.size))
        return {name.rstrip(b"\0").decode(): count for name, count in records if name[0]}
