"""What the columns and figures of a screen mean, for its help page. One table; the words are those on the screen."""

from __future__ import annotations

_FLEET = (
    ("util", "part of the last second in which the device computed; ranks that wait for others count as busy"),
    ("history", "utilization of the last minutes, newest at the right"),
    ("memory", "used / total of the device"),
    ("W", "power now / its limit"),
    ("MHz", "clock of the device; ▼: below that of the last minute"),
    ("who", "fault, then the run and rank, or the users, that hold the device"),
)
_JOBS = (
    ("progress, took", "steps done; of a run that is over its duration, and in narrow terminals its metric"),
    ("samples/s", "throughput now; of a run that is over that of its result, without the first epoch"),
    ("metric", "on the validation data after the last epoch"),
)
_RUN = (
    ("share, batch", "part of the global batch, and samples of one step, that the balancer gives to the rank"),
    ("compute", "milliseconds of a rank's own work in a step, up to its last gradient; data is a part of it"),
    ("stall", "the rank's thread could run and did not: the processor is busy"),
    ("wait", "for other ranks: 0 for the slowest"),
    ("imbalance", "(slowest - fastest) / mean compute time: 0 % is even"),
    ("limit", "sum of what all devices do alone; measured after each case of a benchmark"),
)
_ALERTS = (
    ("active", "its cause is still there"),
    ("acknowledged", "active, and a person has pressed a: it is not counted in the top bar"),
    ("resolved", "its cause is gone"),
)
_RESULTS = (
    ("over equal", "throughput compared with equal shares in the same launch"),
    ("over best device", "compared with the fastest device alone at the whole global batch"),
    ("of the limit", "part of the sum of all devices alone, which no sharing can exceed"),
    ("predicted, miss", "throughput by the profile before the launch, and predicted / measured less one"),
    ("stall", "the rank's thread could run and did not: another program has the processor"),
)
_ADVICE = (
    ("speed-up", "compared with the best single device"),
    ("efficiency", "speed-up over the number of devices, weighed by how fast each is"),
    ("exchange", "milliseconds of a step in which gradients are exchanged and nothing is computed"),
    ("R", "time of computing / time of exchanging: below 1 a group mostly waits for its network, from 10 on it hardly does"),
)
_PROFILES = (
    ("score", "speed compared with the fastest device"),
    ("error", "median distance of measured step times from t = a + c b"),
    ("max batch", "most samples that fit into the device in one step"),
    ("fixed", "a of t = a + c b: milliseconds of a step however few its samples"),
    ("drift", "step time compared with the profile before"),
)
COLUMN_HELP: dict[str, tuple[tuple[str, str], ...]] = {
    "fleet": _FLEET,
    "jobs": _JOBS,
    "run": _RUN,
    "alerts": _ALERTS,
    "results": _RESULTS,
    "advice": _ADVICE,
    "profiles": _PROFILES,
}
"""Name and meaning of each column, by the name of the screen."""
