"""What if: devices taken away or added, another network; what a probe teaches; a profile read back from its document."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paceline.engine.advisor.advise import advise
from paceline.engine.advisor.calibrate import MIN_OVERLAP, calibrate_overlap
from paceline.engine.advisor.predict import Candidate, predict
from paceline.engine.advisor.profile_from_document import profile_from_document
from paceline.engine.advisor.whatif import WhatIf, apply_what_if, link_of
from paceline.engine.errors import UsageError
from paceline.engine.profiles.profile import LinkProfile
from paceline.engine.reports.advice import advice_document
from paceline.engine.reports.profile import profile_document

from tests.engine.advisor.test_advise import GRADIENT, lab
from tests.support.screens.documents import documented, paths

EVERYONE = Candidate((0, 1, 2, 3), 128)


def test_a_device_that_is_taken_away_leaves_the_figures_of_the_others() -> None:
    fewer = apply_what_if(lab(), WhatIf(without=("n2", "n3:0")))
    assert [device.node for device in fewer.devices] == ["n0", "n1"]
    assert predict(fewer, Candidate((0, 1), 128)).step_seconds == predict(lab(), Candidate((0, 1), 128)).step_seconds


def test_another_device_is_like_one_that_was_measured() -> None:
    more = apply_what_if(lab(bandwidth=1e9), WhatIf(more=("2xn0", "n3")))
    assert [device.node for device in more.devices[4:]] == ["n0+1", "n0+2", "n3+1"]
    assert more.devices[4].seconds_per_sample == more.devices[0].seconds_per_sample
    before, after = (advise(profile, 512).asked.samples_per_second for profile in (lab(bandwidth=1e9), more))
    assert after > 1.4 * before


def test_another_device_is_on_a_link_as_slow_as_the_slowest() -> None:
    links = (LinkProfile("n0", "n1", 1e-4, 1e8), LinkProfile("n0", "n3", 1e-4, 1e6))
    more = apply_what_if(replace(lab(bandwidth=1e6), links=links), WhatIf(more=("n0",)))
    near, supposed = (predict(more, Candidate(group, 128)).communication_seconds for group in ((0, 1), (0, 4)))
    assert supposed > 20 * near


def test_a_supposed_link_replaces_what_was_measured_of_all() -> None:
    links = (LinkProfile("n0", "n1", 1e-4, 1e8), LinkProfile("n0", "n3", 1e-4, 1e6))
    supposed = apply_what_if(replace(lab(bandwidth=1e6), links=links), WhatIf(bandwidth=117e6, latency=1e-4))
    assert predict(supposed, EVERYONE).step_seconds == pytest.approx(predict(lab(bandwidth=117e6), EVERYONE).step_seconds)
    assert link_of(supposed) == pytest.approx((1e-4, 117e6))
    only_latency = apply_what_if(lab(bandwidth=1e6), WhatIf(latency=0.5))
    assert link_of(only_latency) == pytest.approx((0.5, 1e6))


@pytest.mark.parametrize("wish", [WhatIf(without=("n9",)), WhatIf(more=("0xn0",)), WhatIf(without=("n0", "n1", "n2", "n3"))])
def test_what_cannot_be_is_refused_in_one_line(wish: WhatIf) -> None:
    with pytest.raises(UsageError) as refused:
        apply_what_if(lab(), wish)
    assert "\n" not in str(refused.value)


@settings(deadline=None, max_examples=50)
@given(st.floats(MIN_OVERLAP, 1), st.floats(1e7, 1e8))
def test_the_overlap_is_found_that_made_the_measured_steps(overlap: float, bandwidth: float) -> None:
    truth = replace(lab(bandwidth=bandwidth), overlap=overlap, is_calibrated=True)
    seconds = predict(truth, EVERYONE).step_seconds
    found = calibrate_overlap(lab(bandwidth=bandwidth), [(EVERYONE, seconds)])
    assert predict(found, EVERYONE).step_seconds == pytest.approx(seconds, rel=1e-3)


def test_steps_that_do_not_depend_on_the_overlap_teach_nothing() -> None:
    profile = lab()
    assert calibrate_overlap(profile, [(Candidate((0,), 128), 0.5)]) is profile
    assert calibrate_overlap(profile, []) is profile
    assert not calibrate_overlap(profile, [(EVERYONE, float("nan"))]).is_calibrated


def test_a_wild_probe_bends_the_overlap_no_further_than_it_can_go() -> None:
    slow = lab(bandwidth=20e6)
    assert calibrate_overlap(slow, [(EVERYONE, 100.0)]).overlap == pytest.approx(MIN_OVERLAP, abs=1e-6)
    assert calibrate_overlap(slow, [(EVERYONE, 1e-6)]).overlap == pytest.approx(1.0, abs=1e-6)


def test_a_profile_read_from_its_document_gives_the_same_advice() -> None:
    links = (LinkProfile("n0", "n1", 1e-4, 2e7), LinkProfile("n1", "n0", error="no way to n0"))
    profile = replace(lab(bandwidth=20e6, largest=100), links=links)
    crowd = tuple(replace(device, kind="cpu", crowding=1.2) for device in profile.devices)
    gradient = replace(GRADIENT, compression_seconds={"fp16": (0.01, 0.02)})
    for told in (profile, replace(profile, devices=crowd, gradient=gradient), replace(profile, overlap=-0.3, is_calibrated=True)):
        read = profile_from_document(json.loads(json.dumps(profile_document(told))))
        assert read is not None
        one, other = advise(read, 64), advise(told, 64)
        assert (one.verdict, one.candidates, one.remedies) == (other.verdict, other.candidates, other.remedies)


@pytest.mark.parametrize("document", [None, {}, {"devices": 3}, {"devices": [{"fit": "x"}]}, {"devices": [{}], "all_reduce": 7}])
def test_what_is_no_profile_gives_none(document: dict[str, object] | None) -> None:
    assert profile_from_document(document) is None


def test_the_document_is_the_one_that_is_promised() -> None:
    profile = lab(bandwidth=20e6)
    document = {"schema": 1, **advice_document(profile, advise(profile, 64))}
    assert paths(document) == documented("advise")
    assert document["recommended"] in document["candidates"]
    alone = [one for one in document["candidates"] if len(one["devices"]) == 1]
    assert {(one["devices"][0]["node"]) for one in alone} == {"n0", "n1", "n2", "n3"}


def test_what_is_recommended_beats_the_best_device_clearly_or_is_that_device() -> None:
    for bandwidth in (1e6, 5e6, 1e7, 2e7, 5e7, 1e8, 1e9):
        advice = advise(lab(bandwidth=bandwidth), 64)
        alone = predict(lab(bandwidth=bandwidth), Candidate((0,), 64)).samples_per_second
        is_one = len(advice.recommended.candidate.devices) == 1
        assert is_one or advice.recommended.samples_per_second > 1.05 * alone


def test_a_lab_of_many_devices_is_advised_without_looking_at_every_subset() -> None:
    many = advise(lab(tuple(100.0 + place for place in range(40)), bandwidth=1e9), 4096)
    assert len(many.candidates) < 2000
    assert len(many.asked.candidate.devices) == 40
