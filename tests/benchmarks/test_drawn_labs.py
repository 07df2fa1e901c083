"""Labs drawn at random: what is predicted of them is what a simulation that knows nothing of the advisor then measures."""

from __future__ import annotations

from statistics import mean

from benchmarks.advice.labs import MAX_ERROR, judge

LABS = range(1000, 1016)


def test_drawn_labs_are_predicted_with_the_right_sign_and_a_headline_that_agrees_with_the_recommendation() -> None:
    results = [judge(seed) for seed in LABS]
    errors = [abs(error) for result in results for error in result.errors]
    assert mean(errors) <= MAX_ERROR
    assert max(errors) <= 0.08
    assert all(result.is_right and result.is_consistent for result in results)
    assert any(0 in result.advice.asked.local_batch_sizes for result in results)
    assert any(result.advice.requested_batch > (result.advice.profile.samples or 0) for result in results)
    assert any(result.advice.requested_batch < len(result.advice.profile.devices) for result in results)
    assert {result.advice.verdict_kind for result in results} >= {"pays", "does not pay"}
