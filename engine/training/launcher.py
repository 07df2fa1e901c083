"""Starts torchrun for the devices of one node without any open port: ``python -m paceline.engine.training.launcher RUN_DIR NODE``.

torchrun's own rendezvous listen on every interface of the machine, and unpickle what a stranger puts there. This one needs no
store that others reach: the plan has assigned the ranks, and the runners of the run carry the group's store (docs/design/doors.md).
torchrun starts the ranks of this node, notices their end, reports the first failure, and ends the others. A run that outlives the
loss of a rank has a torchrun for each device, so that none ends the others.

Ranks of our own programs on processors are forked from this process: it has imported torch, which takes every process three seconds
of a processor and 200 MB, and twice that with what DDP imports. A rank with a GPU starts afresh, as drivers demand.
"""

from __future__ import annotations

import contextlib
import getpass
import importlib
import os
import re
import signal
import sys
import tempfile
from pathlib import Path

from torch.distributed import HashStore, run  # type: ignore[attr-defined]  # torch re-exports it implicitly
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, record
from torch.distributed.elastic.rendezvous import (
    RendezvousHandler,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousStoreInfo,
    rendezvous_handler_registry,
)
from torch.distributed.launcher.api import elastic_launch

from ..plan import NodePlan, Plan
from ..protocol.run_plan import read_run_plan
from ..protocol.temporary_files import make_temporary, remove_temporary
from .recovery.separate_torchruns import SIGNAL_STATUS, SeparateTorchruns
from .worker import prepare_rank

BACKEND = "paceline"


class PlannedRendezvous(RendezvousHandler):
    """A rendezvous of one torchrun with itself: it is complete at once, and closed by nobody."""

    def __init__(self, parameters: RendezvousParameters) -> None:
        self._run_id = parameters.run_id
        self._address = parameters.local_addr or "127.0.0.1"
        self._store = HashStore()

    def get_backend(self) -> str:
        """The name by which torchrun selects it."""
        return BACKEND

    @property
    def use_agent_store(self) -> bool:
        """No rank may use torchrun's store."""
        return False

    def next_rendezvous(self) -> RendezvousInfo:
        """This node alone, with a store in memory, whose address nothing listens on."""
        return RendezvousInfo(self._store, 0, 1, RendezvousStoreInfo(self._address, 0))

    def is_closed(self) -> bool:
        """Never: torchrun ends with its ranks."""
        return False

    def set_closed(self) -> None:
        """Nothing to close."""

    def num_nodes_waiting(self) -> int:
        """No node ever joins this torchrun."""
        return 0

    def get_run_id(self) -> str:
        """Id of the run."""
        return self._run_id

    def shutdown(self) -> bool:
        """Nothing is open."""
        return True


def torchrun_arguments(plan: Plan, node: NodePlan, run_dir: Path, processes: int | None = None) -> list[str]:
    """Words after ``torchrun`` for one node of a plan. Each rank is started by ``paceline.engine.training.worker``.

    ``processes``: None: those of all ranks of the node.
    """
    words = ["--nnodes", "1", "--nproc-per-node", str(processes or len(node.ranks)), "--max-restarts", "0"]
    words += ["--rdzv-backend", BACKEND, "--rdzv-endpoint", "none", "--rdzv-id", plan.run_id, "--local-addr", node.address]
    return [*words, "-m", "paceline.engine.training.worker", str(run_dir), node.name, f"paceline.engine.{plan.program}"]


def main(run_dir: Path, name: str) -> None:
    """Run torchrun in this process. It exits with its own status."""
    plan = read_run_plan(run_dir)
    node = next(node for node in plan.nodes if node.name == name)
    rendezvous_handler_registry.register(BACKEND, PlannedRendezvous)
    words = torchrun_arguments(plan, node, run_dir)
    use_temporary_directory(run_dir)
    try:
        if plan.min_devices is not None and can_fork(plan, node):
            importlib.import_module("torch._dynamo")  # what they share is imported once, before they are forked
            status = SeparateTorchruns(run_dir, node, lambda index: _be_torchrun(plan, node, run_dir, index)).run()
            remove_temporary(run_dir)
            sys.stdout.flush()
            os._exit(status)  # taking down an interpreter that has imported torch costs two seconds of a processor
        elif can_fork(plan, node):
            _launch_forked(words, run_dir, name, f"paceline.engine.{plan.program}")
        else:
            run.main(words)
    finally:
        remove_temporary(run_dir)


def use_temporary_directory(run_dir: Path) -> None:
    """Have this process and its ranks put temporary files into the run: torchrun and torch.multiprocessing leave theirs behind.

    What torch.compile has compiled stays where torch puts it by itself, as later runs use it. On a full disk nothing changes.
    """
    with contextlib.suppress(OSError, KeyError):  # KeyError: a user without a name
        user = re.sub(r'[\\/:*?"<>|]', "_", getpass.getuser())  # as torch._inductor names its directory
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.path.join(tempfile.gettempdir(), f"torchinductor_{user}"))
    with contextlib.suppress(OSError):
        os.environ["TMPDIR"] = str(make_temporary(run_dir))
        tempfile.tempdir = None


def can_fork(plan: Plan, node: NodePlan) -> bool:
    """Whether the ranks of a node may be forked: they run our own code, and none of them uses a GPU."""
    return plan.program != "script" and all(plan.ranks[rank].device_kind != "cuda" for rank in node.ranks)


def _be_torchrun(plan: Plan, node: NodePlan, run_dir: Path, index: int) -> int:
    """A forked torchrun with the rank of one device. Returns the rank's exit status; that of a signal is added to SIGNAL_STATUS."""
    words = torchrun_arguments(plan, node, run_dir, processes=1)
    try:
        _launch_forked(words, run_dir, node.name, f"paceline.engine.{plan.program}", index)
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        return SIGNAL_STATUS - code if code < 0 else code or 1
    except BaseException as error:  # of torchrun itself, SystemExit and signals too: this process must not go on as its parent
        print(f"torchrun for device {index}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


@record
def _launch_forked(words: list[str], run_dir: Path, node: str, module: str, index: int | None = None) -> None:
    """Launch as torchrun does, with forked ranks. ``index``: of the one rank on its node; None: torchrun counts them."""
    importlib.import_module("torch._dynamo")  # DDP and every optimizer import it: once here, and not in each rank
    config, _, _ = run.config_from_args(run.parse_args(words))
    config.start_method = "fork"
    elastic_launch(config, entrypoint=_run_rank)(run_dir, node, module, index)


def _run_rank(run_dir: Path, node: str, module: str, index: int | None) -> None:
    """A forked rank: the program's ``main``, without what this process set up for itself."""
    if index is not None:
        os.environ["LOCAL_RANK"] = str(index)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    prepare_rank(run_dir, node)
    status = importlib.import_module(f"{module}.__main__").main(run_dir, node)
    sys.stdout.flush()
    if status:
        os._exit(status)  # the backend's threads may hang on a lost peer; everything is written already


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
