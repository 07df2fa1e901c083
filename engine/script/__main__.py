"""One rank of a script under Paceline: ``python -m paceline.engine.script RUN_DIR NODE``. docs/design/scripts.md is the contract.

``training.worker`` has prepared the process: torchrun's variables, and the run's store behind ``init_process_group``. This program
opens the doors and then becomes the script.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import functools
import os
import runpy
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore  # type: ignore[attr-defined]  # torch re-exports it implicitly

from ..balancer.step_time import StepTime
from ..errors import PacelineError, PlanImpossible
from ..events import RankJoined
from ..plan import NodePlan, Plan, RankPlan, ScriptPlan
from ..protocol.data_names import DATA_VARIABLE
from ..protocol.project_files import WORK_DIRECTORY
from ..protocol.run_plan import read_run_plan
from ..specs import TrialSpec
from ..training.checkpoints.resume import make_checkpointer, read_resumed
from ..training.group.default_store import run_store
from ..training.group.peer_failure import is_collateral
from ..training.group.rank_process import own_rank
from ..training.rank_log import RankLog
from . import process
from .checkpoint import RunCheckpoints
from .doors.patches import Patches
from .doors.unchanged import open_doors
from .pacing import PacedTimer
from .recorder import RankRecorder, ScriptRecorder, StopScript
from .session import ScriptSession
from .timing import timer_for
from .trials.child import alone_on, in_group
from .trials.placed import run_placed
from .trials.shared_out import run_trials

STOPPED = -1
"""Status of a script that was stopped after the steps for which it is measured."""
FINISH_TIMEOUT_S = 3.0
"""Seconds that a rank waits for the others at its end; a rank that ends early does not hold them up."""


def make_session(plan: Plan, rank: RankPlan, script: ScriptPlan, log: RankLog) -> ScriptSession:
    """Return the session of a rank, with its device and its timer."""
    device = torch.device("cuda", rank.local_rank) if rank.device_kind == "cuda" else torch.device("cpu")
    emulation = rank.emulation
    timer = timer_for(device) if emulation is None else PacedTimer(plan, rank, emulation, script.rate)
    if device.type == "cpu":
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    else:
        torch.cuda.set_device(device)
    return ScriptSession(
        rank=rank.rank,
        world=len(plan.ranks),
        device=device,
        timer=timer,
        policy=plan.cases[0].policy,
        is_library=False,
        recorder=RankRecorder(log, rank.rank, len(plan.ranks), "torch"),
        is_strict=script.is_strict,
        profile=tuple(StepTime(speed.fixed_seconds, speed.seconds_per_sample) for speed in script.profile),
        batch=script.batch,
        max_steps=script.max_steps,
    )


def run_search(run_dir: Path, plan: Plan, rank: RankPlan, script: ScriptPlan, log: RankLog) -> None:
    """Take trials of a search until none is left."""
    node = plan.nodes[rank.node_rank]

    def run_placed_trial(trial: TrialSpec, recorder: ScriptRecorder) -> None:
        if trial.is_group:
            in_group(run_dir, plan, rank, trial, run_store(run_dir))
        else:
            alone_on(run_dir, rank, trial)
        run_script(run_dir, dataclasses.replace(script, args=trial.args), node)

    def run(trial: TrialSpec, recorder: ScriptRecorder) -> None:
        alone_on(run_dir, rank, trial)
        device = torch.device("cuda", 0) if rank.device_kind == "cuda" else torch.device("cpu")
        timer = timer_for(device) if rank.emulation is None else PacedTimer(plan, rank, rank.emulation, script.rate)
        session = ScriptSession(rank=0, world=1, device=device, timer=timer, policy="equal", is_library=False, recorder=recorder)
        process.opened(session, open_doors(session))
        run_script(run_dir, dataclasses.replace(script, args=trial.args), node)

    if script.trials[0].place or script.trials[0].is_group:
        run_placed(plan, rank, script, log, run_store(run_dir), run_placed_trial)
    else:
        run_trials(plan, rank, script, log, run_store(run_dir), run)


def run_checkpoints(plan: Plan, rank: RankPlan, run_dir: Path, log: RankLog) -> RunCheckpoints:
    """Return what this rank writes of the run's checkpoints, and the one that the run goes on from. Raises DataRefused."""
    writer = make_checkpointer(plan, rank, run_dir, log)
    return RunCheckpoints(writer, read_resumed(plan, run_dir), workload=plan.workload, case=plan.cases[0].name)


def show_own_devices(plan: Plan, node: NodePlan) -> None:
    """Show the script the devices of the plan, so that LOCAL_RANK is an index of them; before CUDA starts."""
    ranks = [plan.ranks[rank] for rank in node.ranks]
    indices = [str(rank.device_index) for rank in ranks if rank.device_kind == "cuda"]
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(indices)


def note_group(patches: Patches, plan: Plan, log: RankLog) -> None:
    """Write that the rank has joined, when the script has formed its first group."""
    is_told: list[bool] = []

    def joined(original: Any) -> Any:
        @functools.wraps(original)
        def form(*args: Any, **kwargs: Any) -> None:
            original(*args, **kwargs)
            if not is_told:
                is_told.append(True)
                log.write(RankJoined(pid=os.getpid(), world_size=len(plan.ranks), backend=str(dist.get_backend())))

        return form

    patches.replace(dist, "init_process_group", joined)


def run_script(run_dir: Path, script: ScriptPlan, node: NodePlan) -> None:
    """Become the script: its arguments, its place on Python's path, its name ``__main__``. Raises what it raises."""
    named = {data.name: os.path.join(os.environ.get(DATA_VARIABLE, ""), data.name) for data in script.data}
    arguments = [substituted(argument, {**node.paths, **named}) for argument in script.args]
    # Our bundle comes last, so that nothing of the script's is shadowed by what lies in it.
    bundles = [entry for entry in sys.path if entry.endswith(".zip") and "bundles" in entry]
    sys.path[:] = [entry for entry in sys.path if entry not in bundles and entry != ""] + bundles
    if script.is_module:
        sys.path.insert(0, os.getcwd())
        sys.argv = [script.target, *arguments]
        runpy.run_module(script.target, run_name="__main__", alter_sys=True)
        return
    path = run_dir / WORK_DIRECTORY / script.target
    sys.path.insert(0, str(path.parent))
    sys.argv = [str(path), *arguments]
    runpy.run_path(str(path), run_name="__main__")


def substituted(argument: str, paths: dict[str, str]) -> str:
    """Return an argument with ``{name}`` replaced by the path of that name on this node; other braces stay."""
    for name, path in paths.items():
        argument = argument.replace("{" + name + "}", os.path.expanduser(path))
    return argument


def exit_status(stopped: SystemExit) -> int:
    """Return the status that Python would exit with."""
    if stopped.code is None:
        return 0
    if isinstance(stopped.code, int):
        return stopped.code
    print(stopped.code, file=sys.stderr)
    return 1


def reason_of(error: BaseException, ended: list[int]) -> str:
    """Return one line for a failure; ``ended``: ranks that had ended before."""
    text = " ".join(str(error).split())
    if ended:
        ranks = " and ".join(map(str, ended))
        return f"rank {ranks} had ended while this rank went on: every rank has to take as many steps"
    return text if isinstance(error, PacelineError) else f"{type(error).__name__}: {text}".rstrip(": ")


def main(run_dir: Path, node_name: str) -> int:
    """Run the script of one rank; write a failure as one line to the rank's file. Return the exit status, or STOPPED."""
    plan = read_run_plan(run_dir)
    rank = own_rank(plan, node_name)
    node = plan.nodes[rank.node_rank]
    log = RankLog(run_dir / "ranks" / f"{rank.rank}.jsonl", rank.rank)
    log.case = plan.cases[0].name
    script = plan.script
    if script is None:
        raise PlanImpossible("the plan names no script")
    if script.trials:
        run_search(run_dir, plan, rank, script, log)
        return 0
    show_own_devices(plan, node)
    session = make_session(plan, rank, script, log)
    patches = open_doors(session)
    note_group(patches, plan, log)
    process.opened(session, patches)
    if session.policy == "equal":
        session.judge.notice("its policy is equal")
    ends = PrefixStore("script", run_store(run_dir))
    status = 0
    try:
        session.checkpoints = run_checkpoints(plan, rank, run_dir, log)
        run_script(run_dir, script, node)
    except StopScript:
        print(f"paceline: stopped after {script.max_steps} steps, it is only measured", flush=True)
        status = STOPPED
    except SystemExit as stopped:
        status = exit_status(stopped)
        if status:
            log.write_failure(f"the script exited with status {status}", is_collateral=False)
    except BaseException as error:
        traceback.print_exception(error)
        ended = []
        if is_collateral(error):
            with contextlib.suppress(Exception):
                ended = [peer.rank for peer in plan.ranks if ends.check([f"ended/{peer.rank}"])]
        log.write_failure(reason_of(error, ended)[:500], is_collateral=is_collateral(error) and not ended)
        status = 130 if isinstance(error, KeyboardInterrupt) else 1
    if session.checkpoints is not None:
        session.checkpoints.close()
    if status in (0, STOPPED):
        with contextlib.suppress(Exception):
            session.recorder.close(session.timer, () if session.balance is None else session.balance.sizes)
        with contextlib.suppress(Exception):
            ends.set(f"ended/{rank.rank}", "")
            run_store(run_dir).finish(rank.rank, FINISH_TIMEOUT_S)
    return status


if __name__ == "__main__":
    code = main(Path(sys.argv[1]), sys.argv[2])
    if code != STOPPED:  # in the middle of a step its threads may wait for ever
        threading._shutdown()  # type: ignore[attr-defined]  # as at Python's own end: wait for the threads of the script
        atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0 if code == STOPPED else code)  # the backend's threads may hang on a lost peer; everything is written already
