"""A cluster as rows of devices: by class and partition, with what is free, who uses it, and the queue by user."""

from __future__ import annotations

from paceline.engine.events import QueueShare
from paceline.engine.slurm.cluster_view import KIND, class_readings, queue_shares
from paceline.engine.slurm.listings import parse_machines, parse_queue

MACHINES = parse_machines(
    "gpu|up|1-00:00:00|mix|3|gpu:a100:4|a100|n[1-3]\n"
    "gpu|up|1-00:00:00|idle|1|gpu:a100:4|a100|n4\n"
    "gpu|up|1-00:00:00|down*|1|gpu:a100:4|a100|n5\n"
    "gpu|up|1-00:00:00|idle|2|gpu:v100:2|v100|n[6-7]\n"
    "cpu|up|1:00:00|alloc|2|(null)|(null)|c[1-2]\n"
)
QUEUE = parse_queue(
    "812+0|RUNNING|None|gpu|400|ann|N/A|1:00|0:10|1|n1|paceline-20261130-1200-abcdef\n"
    "812+1|RUNNING|None|gpu|400|ann|N/A|1:00|0:10|1|n2|paceline-20261130-1200-abcdef.1\n"
    "813|PENDING|Priority|gpu|300|bob|N/A|1:00|0:00|1||x\n"
    "814|PENDING|Priority|cpu|300|bob|N/A|1:00|0:00|1||y\n"
)


def test_each_class_of_a_partition_is_one_row_with_its_users() -> None:
    a100, v100, processors = class_readings(MACHINES, QUEUE)
    assert a100.name == "a100 x 20 in gpu: 1 of 5 machines free, 1 down"
    assert (a100.utilization, v100.utilization, processors.utilization) == (0.75, 0.0, 1.0)
    assert v100.name == "v100 x 4 in gpu: 2 of 2 machines free"
    assert processors.name == "processors x 2 in cpu: 0 of 2 machines free"
    assert [(one.user, one.run_id) for one in a100.processes or ()] == [("ann", "20261130-1200-abcdef"), ("ann", "")]
    assert {row.kind for row in (a100, v100, processors)} == {KIND}
    assert [row.name for row in class_readings(MACHINES, QUEUE, ("cpu",))] == [processors.name]


def test_the_queue_counts_jobs_by_user_and_a_heterogeneous_one_once() -> None:
    assert queue_shares(QUEUE) == (QueueShare("bob", 0, 2), QueueShare("ann", 1, 0))
    assert queue_shares([]) == ()
