"""What Slurm's commands refuse, as errors that a person can act on. Pure."""

from __future__ import annotations

import re

from ..errors import ConfigurationError, NodeUnreachable, PacelineError, PlanImpossible, StorageFailed, WorkFailed

_REFUSALS: tuple[tuple[str, type[PacelineError], str, str], ...] = (
    (
        r"[Ii]nvalid partition|partition name",
        ConfigurationError,
        "it knows no such partition",
        "sinfo -s lists them: set partitions",
    ),
    (
        r"account/partition combination|[Ii]nvalid account|account.*(required|must)|specify an account",
        ConfigurationError,
        "it needs an account that this user may use",
        "sacctmgr show assoc user=$USER lists them: set account",
    ),
    (
        r"[Ii]nvalid qos|QOS.*(required|must)",
        ConfigurationError,
        "it knows no such QOS for this user",
        "sacctmgr show assoc user=$USER format=qos lists them: set qos",
    ),
    (
        r"time limit.*(exceed|[Ii]nvalid)|exceeds.*time|Invalid --time|[Rr]equested time limit",
        ConfigurationError,
        "it refuses the time limit",
        "sinfo -o '%P %l' shows what each partition allows: set time_limit",
    ),
    (
        r"[Ii]nvalid feature",
        ConfigurationError,
        "no machine has such features",
        "sinfo -o '%f' lists them: set constraint",
    ),
    (
        r"[Ii]nvalid generic resource|[Ii]nvalid gres|gres.*invalid",
        ConfigurationError,
        "it knows no such generic resource",
        "sinfo -o '%G' lists them: set gres",
    ),
    (
        r"AssocMax|QOSMax|AssocGrp|QOSGrp|MaxSubmitJob|violates accounting|[Qq]uota.*(job|qos|assoc)",
        PlanImpossible,
        "a limit of the account or the QOS is reached",
        "squeue --me shows what runs; wait, or cancel something",
    ),
    (
        r"node configuration is not available|More processors requested|count specification invalid",
        PlanImpossible,
        "no machines of this cluster fit",
        "sinfo -N -o '%N %f %G %c' shows them: fewer machines, or another class",
    ),
    (
        r"[Dd]isk quota|No space left|I/O error writing script",
        StorageFailed,
        "no space for the job",
        "free some space there",
    ),
    (
        r"Unable to contact slurm|[Cc]onnection refused|timed out|Zero Bytes|controller.*(down|respond)",
        NodeUnreachable,
        "the Slurm controller does not answer",
        "running jobs go on; try again",
    ),
    (
        r"[Aa]ccess/permission denied|not permitted|Invalid user id",
        WorkFailed,
        "it refuses this user",
        "ask its administrators",
    ),
)
"""What a command says, the class of error, and our reason and hint; the first that matches counts."""
_PREFIX = re.compile(r"^(?:(?:sbatch|squeue|scontrol|scancel|sinfo|srun): ?)?(?:error|fatal): ")


def refusal(command: str, output: str) -> PacelineError:
    """The error for what a command of Slurm said when it failed, with its own words behind ours."""
    lines = (_PREFIX.sub("", line).strip() for line in output.splitlines() if line.strip())
    said = "; ".join(dict.fromkeys(lines))[:300]
    for pattern, kind, reason, hint in _REFUSALS:
        if re.search(pattern, output):
            return kind(f"Slurm: {reason}: {said}", hint=hint)
    return WorkFailed(f"Slurm: {command} failed: {said or 'it said nothing'}", hint="try the same by hand at the login node")


def command_missing(command: str) -> PacelineError:
    """The error where a command of Slurm is not installed."""
    return ConfigurationError(
        f"{command} is not found there: is this a login node of Slurm?",
        hint='kind = "ssh" for a plain machine; else put Slurm on the PATH of logins without a shell',
    )
