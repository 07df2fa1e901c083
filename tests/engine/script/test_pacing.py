"""The pace of emulated devices for a script that nobody knows: fixed once, so that the balanced step takes 400 ms."""

from __future__ import annotations

import random

import pytest
from paceline.engine.plan import DataPlan, Emulation, Plan, RankPlan
from paceline.engine.script.pacing import BALANCED_STEP_S, SLOWEST_FACTOR, PacedTimer

from tests.support.installed import needs

pytestmark = needs("torch")


def timers(devices: list[Emulation], rate: float | None = None) -> list[PacedTimer]:
    ranks = tuple(RankPlan(rank, "n", 0, rank, rank, "emulated", "gpu", emulation=one) for rank, one in enumerate(devices))
    plan = Plan("run", "train.py", (), (), ranks, DataPlan("d", "", 0, ""), epochs=0, global_batch_size=0)
    return [PacedTimer(plan, rank, one, rate) for rank, one in zip(ranks, devices, strict=True)]


def test_three_unpaced_steps_fix_one_rate_for_all_ranks_whose_balanced_step_takes_400_ms(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(50):
        devices = [Emulation(rng.uniform(0.5, 20.0)) for _ in range(rng.randrange(1, 6))]
        seconds, batch = [rng.uniform(0.0, 0.4) for _ in devices], rng.randrange(1, 5000)
        rates = {timer.fix(2, seconds, batch) for timer in timers(devices)}
        assert len(rates) == 1
        (rate,) = rates
        assert rate is not None
        balanced = batch / sum(device.speed * rate for device in devices)
        assert balanced == pytest.approx(max(BALANCED_STEP_S, SLOWEST_FACTOR * max(seconds)))


def test_a_rate_in_nodes_toml_is_that_of_the_device_whatever_its_speed() -> None:
    own = timers([Emulation(4.0, rate=300.0), Emulation(1.0, rate=100.0)])
    assert [timer.first_paced_step for timer in own] == [0, 0]
    assert own[0].fix(2, [0.01, 0.01], 400) is None
    mixed = timers([Emulation(4.0, rate=300.0), Emulation(2.0)])
    assert mixed[0].first_paced_step is None
    assert mixed[1].fix(2, [0.01, 0.01], 400) == pytest.approx((400 / BALANCED_STEP_S - 300) / 2)
    assert timers([Emulation(1.0)], rate=50.0)[0].first_paced_step == 0
