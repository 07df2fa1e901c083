"""What a log line says and how serious it is: sentences of events, levels of output, times that a person types."""

from __future__ import annotations

import random
from dataclasses import fields
from datetime import datetime
from pathlib import Path

import pytest
from paceline.engine.events import EVENTS, CheckpointWritten, EpochEnded, Event, RankFailed, RunnerEnded, SharesChanged
from paceline.engine.jobs.logs.event_sentence import sentence
from paceline.engine.jobs.logs.event_text import QUIET_KINDS, event_text
from paceline.engine.jobs.logs.line_index import LineFilter, LineIndex
from paceline.engine.jobs.logs.merge import Clock, LineReader, MergedLine, merge
from paceline.engine.jobs.logs.since import parse_since
from paceline.engine.jobs.mirror.levels import LEVELS, OutputLevels, is_at_least
from paceline.engine.wire import encode

NOW = datetime(2026, 11, 30, 14, 2, 31).timestamp()
WRITTEN_ON_NODES = [
    kind
    for name, kind in EVENTS.items()
    if (kind.__module__.endswith("events") and "case" in {field.name for field in fields(kind)})
    or name in ("RunnerStarted", "LaunchStarted", "PeerLost", "StrangersRefused", "RunnerEnded")
]
SILENT = {"DeviceUsed", "DeviceProfiled", "StepTimesProfiled", "LinkProfiled", "AllReduceProfiled", "GradientProfiled"}
SILENT |= {"SystemProfiled"}
"""Figures of a profile, whose fields are named one by one."""


@pytest.mark.parametrize("kind", WRITTEN_ON_NODES, ids=lambda kind: kind.__name__)
def test_every_event_of_a_run_is_a_sentence_and_no_name_of_an_event(kind: type[Event]) -> None:
    if kind.__name__ in QUIET_KINDS | SILENT:
        return
    found = sentence(kind())
    assert found is not None, "a new event needs a sentence"
    assert kind.__name__ not in found[0]
    assert "_" not in found[0]
    assert found[1] in LEVELS


@pytest.mark.parametrize(
    ("event", "text", "level"),
    [
        (RankFailed(rank=1, reason="CUDA error: out of memory"), "rank 1 failed: CUDA error: out of memory", "error"),
        (RankFailed(rank=0, reason="gone", is_collateral=True), "rank 0 ended because another rank was gone: gone", "warning"),
        (
            SharesChanged(
                step=70, before=(96, 96), after=(120, 72), reason="demo3 slowed", predicted_before=0.6, predicted_after=0.43
            ),
            "step 70: shares 96/96 → 120/72: demo3 slowed; predicted 600 → 430 ms a step",
            "info",
        ),
        (
            EpochEnded(
                case="hybrid", epoch=1, epochs=8, samples=1000, seconds=2.0, loss=0.118, metric=0.971, metric_name="accuracy"
            ),
            "hybrid: epoch 2 of 8 is over, 500 samples/s, loss 0.118, accuracy 97.1 %",
            "info",
        ),
        (RunnerEnded(state="done"), "the run is done here", "info"),
        (RunnerEnded(state="failed", reason="out of memory"), "the run failed here: out of memory", "error"),
        (
            CheckpointWritten(name="epoch-3.pt", step=120, size=12_400_000, stall_seconds=0.012),
            "checkpoint epoch-3.pt written at step 120, 12.4 MB; training waited 12 ms",
            "info",
        ),
        (CheckpointWritten(name="a.pt", error="disk full"), "checkpoint a.pt could not be written: disk full", "warning"),
    ],
    ids=lambda value: value.__class__.__name__ if isinstance(value, Event) else "",
)
def test_an_event_reads_as_a_person_would_say_it(event: Event, text: str, level: str) -> None:
    found = event_text(encode(event))
    assert found is not None
    assert (found.text, found.level) == (text, level)


def test_an_event_of_a_newer_version_is_still_named_with_its_fields() -> None:
    found = event_text('{"kind":"ShipSailed","rank":2,"case":"x","harbour":"Kiel","knots":12.25}')
    assert found is not None
    assert (found.text, found.rank, found.level) == ("Ship sailed: harbour Kiel · knots 12.25", 2, "info")


TRACEBACK = """[rank1]: Traceback (most recent call last):
[rank1]:   File "train.py", line 3, in <module>
[rank1]:     main()
[rank1]: RuntimeError: boom"""


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        (TRACEBACK, ["error"] * 4),
        (f"{TRACEBACK}\nstep 3", ["error"] * 4 + ["info"]),
        ("Traceback (most recent call last):\n  File \"a\"\nKeyError: 'x'\nfine", ["error"] * 3 + ["info"]),
        ("W1130 18:32:12.123000 4711 torch/distributed/run.py:792] Setting OMP_NUM_THREADS", ["warning"]),
        ("[rank0]:[E1130 18:32:12.1 ProcessGroupNCCL.cpp:632] Watchdog caught collective timeout", ["error"]),
        ("/usr/lib/x.py:3: UserWarning: this is slow", ["warning"]),
        ("2026-11-30 14:02:31 WARNING loss is nan", ["warning"]),
        ("ERROR:root:no data", ["error"]),
        ("error: cannot open file", ["error"]),
        ("Segmentation fault (core dumped)", ["error"]),
        ("KeyboardInterrupt", ["error"]),
        ("epoch 3: error: 0.31, warning: 2", ["info"]),
        ("validation error 0.25", ["info"]),
        ("reading Error_log.csv with WARNINGS off", ["info"]),
        ("", ["info"]),
    ],
)
def test_output_is_judged_by_its_words(text: str, levels: list[str]) -> None:
    judge, lines = OutputLevels(), text.split("\n")
    assert [judge.level(line) for line in lines] == levels
    troubled = [number for number, level in enumerate(levels) if level != "info"]
    errors = [number for number, level in enumerate(levels) if level == "error"]
    assert OutputLevels().troubles(lines, text) == (tuple(troubled), tuple(errors))


def test_a_quick_look_over_many_lines_finds_what_each_line_says(seed: int) -> None:
    generator = random.Random(seed)
    pool = [*TRACEBACK.split("\n"), "loss 0.3", "UserWarning: x", "fine", "E1130 18:32:12 x", "error: y", "[rank0]: ", "  indented"]
    one, other = OutputLevels(), OutputLevels()
    for _ in range(200):
        lines = [generator.choice(pool) for _ in range(generator.randrange(1, 9))]
        expected = [one.level(line) for line in lines]
        troubled, errors = other.troubles(lines, "\n".join(lines))
        assert troubled == tuple(number for number, level in enumerate(expected) if level != "info")
        assert errors == tuple(number for number, level in enumerate(expected) if level == "error")


@pytest.mark.parametrize(
    ("text", "seconds_ago"),
    [
        ("10m", 600),
        ("90", 90),
        ("2 h", 7200),
        ("1.5h", 5400),
        ("3 days ago", 3 * 86400),
        ("14:02", 31),
        ("14:02:30", 1),
        ("2026-11-30 13:02:31", 3600),
        ("2026-11-29T14:02:31", 86400),
        ("14:03", 86400 - 29),  # yesterday's
    ],
)
def test_a_time_is_typed_as_people_say_it(text: str, seconds_ago: float) -> None:
    assert NOW - parse_since(text, NOW) == pytest.approx(seconds_ago)


@pytest.mark.parametrize("text", ["", "soon", "25:00", "-3m", "10 parsecs", "2026-13-01", "9" * 40])
def test_a_time_that_is_none_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="10m, 2h, 14:02"):
        parse_since(text, NOW)


def test_lines_since_a_time_keep_output_that_stands_after_it() -> None:
    events = [MergedLine("a", None, 1.0, "begun"), MergedLine("a", None, 9.0, "ended")]
    output, quiet = [MergedLine("a", 0, None, "Traceback")], [MergedLine("b", 0, None, "quiet")]
    files = [events, output, quiet, [MergedLine("b", None, 2.0, "b")]]
    assert [line.text for line in merge(files, since=5.0)] == ["Traceback", "ended"]
    # The same where only errors are wanted: the event that dates the output is left out.
    assert [line.text for line in merge([output, quiet], since=5.0, ends={"a": 9.0, "b": 2.0})] == ["Traceback"]


def write_run(copies: Path, generator: random.Random) -> None:
    """Output and events of two nodes, drawn at random, written long ago."""
    words = ["loss 0.3", "UserWarning: slow", "error: no", "Traceback (most recent call last):", "  File x", "ValueError: y", "ok"]
    for rank, node in enumerate(("a", "b")):
        (copies / node / "ranks").mkdir(parents=True)
        text = "".join(f"{generator.choice(words)} {number}\n" for number in range(generator.randrange(1, 3000)))
        (copies / node / "out.log").write_text(text)
        kinds = ("RankJoined", "RankFailed", "StepSkipped", "StepsTaken")
        lines = [f'{{"kind":"{generator.choice(kinds)}","node_time":{1000 + number},"rank":{rank}}}' for number in range(50)]
        (copies / node / "ranks" / f"{rank}.jsonl").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("level", LEVELS)
def test_the_screen_shows_the_lines_that_the_verb_prints(seed: int, tmp_path: Path, level: str) -> None:
    write_run(tmp_path, random.Random(seed))
    index = LineIndex(tmp_path)
    while blocks := index.scan():
        index.add(blocks)
    everything = [index.line(number) for number in range(len(index))]
    wanted = next(name for name in LEVELS if name == level)
    index.set_filter(LineFilter(level=wanted))
    shown = [index.line(number) for number in range(len(index))]
    assert shown == [line for line in everything if is_at_least(line.level, wanted)]
    read = []
    for path in sorted(path for name in ("*/out.log", "*/ranks/*.jsonl") for path in tmp_path.glob(name)):
        reader = LineReader(path.relative_to(tmp_path).parts[0], path.name, (0, 1), Clock())
        read += [line.text for line in reader.feed(path.read_bytes()) if is_at_least(line.level, wanted)]
    assert sorted(line.text for line in shown) == sorted(read)
    assert all(index.find(line.text, number, 1) == number for number, line in list(enumerate(shown))[:5])
    index.set_filter(LineFilter("a", 0, wanted, since=1040.0))
    assert all(line.at is None or line.at >= 1040.0 for line in (index.line(number) for number in range(len(index))))
    assert {index.line(number).node for number in range(len(index))} <= {"a"}
