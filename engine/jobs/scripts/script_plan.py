"""What is known of a script before it runs, in its plan: its pace on emulated devices, and the profile that shares start from."""

from __future__ import annotations

from dataclasses import replace

from ...plan import Plan, RankSpeed
from ...profiles.profile import Profile
from ...states import Policy

STARTED_BY_PROFILE: tuple[Policy, ...] = ("hybrid", "proportional")
"""Policies that start by a profile; without one a script starts with equal shares."""


def with_known(plan: Plan, profile: Profile | None, rate: float | None) -> Plan:
    """The plan of a script with its kept rate and profile. Pure."""
    if plan.script is None:
        return plan
    times = {} if profile is None else {device.key: device.step_time for device in profile.devices}
    found = [times.get((rank.node, rank.device_index)) for rank in plan.ranks]
    speeds = tuple(RankSpeed(time.fixed_seconds, time.seconds_per_sample) for time in found if time is not None)
    is_whole = len(speeds) == len(plan.ranks) > 1
    given = plan.script.rate  # of a search: its trials are paced alike
    kept = (rate if given is None else given) if plan.is_emulated else None
    return replace(plan, script=replace(plan.script, rate=kept, profile=speeds if is_whole else ()))


def alone(plan: Plan, steps: int, batch: int | None) -> Plan:
    """The plan of a device that is measured alone for some steps. Pure."""
    script = plan.script and replace(plan.script, max_steps=steps, batch=batch)
    return replace(plan, script=script, checkpoints=None, name="")


def start_sentence(plan: Plan) -> str | None:
    """That a script starts with equal shares although its policy would start by a profile; None where there is nothing to say."""
    script = plan.script
    if script is None or script.profile or script.trials or script.max_steps is not None or len(plan.ranks) < 2:
        return None
    policy = plan.cases[0].policy
    if policy not in STARTED_BY_PROFILE:
        return None
    return f"{policy} starts with equal shares and learns: {plan.workload} has no profile on these devices (paceline profile)"
