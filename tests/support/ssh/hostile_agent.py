"""An agent that is broken, silent or hostile in one way: ``python -S hostile_agent.py KIND``. It starts fast."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any

HELLO = {"hello": {"hostname": "evil", "boot_id": "b", "address": "127.0.0.1", "interface": "lo", "addresses": {"lo": "127.0.0.1"}}}
READING = {"kind": "NodeReported", "devices": [{"index": 0, "name": "RTX 3060", "kind": "emulated"}]}
RUN, ENDED = "20260101-0000-aaaaaa", "20260101-0001-bbbbbb"
"""Runs of the good nodes, about which this one lies."""
LIE = {
    "run_id": RUN,
    "workload": "digits-cnn",
    "nodes": ["bad", "g1", "g2"],
    "exit": {"state": "failed", "reason": "I say so", "rank": 0},
}
DEEP = "[" * 100_000


def say(message: Any) -> None:
    """One line, whole."""
    text = message if isinstance(message, str) else json.dumps(message)
    os.write(1, text.encode("utf-8", "surrogatepass") + b"\n")


def for_ever(line: bytes, descriptor: int = 1) -> None:
    """Write until the reader is gone."""
    block = line * max(1, 65536 // len(line))
    while True:
        os.write(descriptor, block)


def sleep() -> None:
    """Neither end nor do anything."""
    while True:
        time.sleep(600)


def report() -> None:
    """A reading a second, as a good agent."""

    def loop() -> None:
        while True:
            say(READING)
            time.sleep(1.0)

    threading.Thread(target=loop, daemon=True).start()


ANSWERS: dict[str, Any] = {
    "answers with errors": {"error": {"type": "WorkFailed", "reason": "no"}},
    "answers with a refusal": {"error": {"type": "NodeRefused", "reason": "no"}},
    "answers with a foreign error": {"error": {"type": "SystemExit", "reason": ["x"] * 99, "hint": 7}},
    "answers with a usage error": {"error": {"type": "UsageError", "reason": "\x1b[2J[/red]\ud800"}},
    "answers null": {"answer": None},
    "answers a list": {"answer": [1, 2]},
    "answers deep": '{"id": %d, "answer": ' + DEEP + "}",
    "answers rows of rubbish": {"answer": {"runs": [None, 7, {}, [], {"run_id": "../x"}, {"run_id": 7}], "files": 7, "epoch": "x"}},
    "lies about runs": {"answer": {"runs": [LIE, {**LIE, "run_id": ENDED}], "epoch": 1, "survivors": []}},
    "lies about ten thousand runs": {
        "answer": {"runs": [{**LIE, "run_id": f"20260101-0002-{i:06d}", "nodes": ["bad"]} for i in range(10_000)]}
    },
    "claims the greatest epoch": {"answer": {"runs": [LIE], "epoch": (1 << 62) - 1, "survivors": [1, 2, "x", -1]}},
    "claims impossible figures": {
        "answer": {"runs": [{**LIE, "started": 1e300, "step": -(10**18)}], "files": {"out.log": 1 << 60}, "time": 1e300}
    },
    "claims wrong types": {"answer": {"runs": {"x": 1}, "epoch": True, "survivors": "none", "files": [], "time": "now", "plan": 7}},
}
"""By kind, what it says to every question."""
TEXTS: dict[str, tuple[bytes, int]] = {
    "floods before hello": (b"x\n", 1),
    "one endless line before hello": (b"x", 1),
    "endless standard error": (b"x\n", 2),
}
FLOODS: dict[str, Any] = {
    "floods readings": READING,
    "floods warnings": {"kind": "NodeWarned", "reason": "disk"},
    "floods unknown events": {"kind": "Nonsense", "x": [1] * 20},
    "floods events of the centre": {"kind": "RunEnded", "state": "failed"},
    "floods frames": {"frame": {"run_id": RUN, "gen": 1, "file": "out.log", "offset": 0, "len": 3, "crc32": 0, "data": "AAAA"}},
    "floods answers": {"id": 10**9, "answer": {}},
}
ONCE: dict[str, Any] = {
    "hello of wrong types": {"hello": {"hostname": 7, "addresses": [1]}},
    "hello is a list": {"hello": [1, 2]},
    "says no JSON": "no JSON",
    "says deep JSON": DEEP,
    "says an endless line": b"x",
    "reports ten thousand devices": {"kind": "NodeReported", "devices": [{"index": i, "name": "x" * 40} for i in range(10_000)]},
    "reports wild figures": {
        "kind": "NodeReported",
        "devices": [
            {"index": -1, "name": "\ud800\x1b[31m" * 999, "utilization": 1e308, "memory_used": -(2**62), "temperature": -1e9}
        ],
    },
    "reports wrong types": {"kind": "NodeReported", "devices": [7]},
    "says hello twice": HELLO,
}
OTHERS = (
    "silent before hello",
    "ends before hello",
    "ends after hello",
    "neither reports nor answers",
    "answers nothing",
    "answers late",
)
KINDS = (*OTHERS, *TEXTS, *FLOODS, *ONCE, *ANSWERS)
"""Every way to be bad."""


def answer_all(kind: str) -> None:
    """Read questions to the end of the input."""
    for line in sys.stdin:
        message = json.loads(line) if line.strip() else {}  # the first line is empty
        if "ask" not in message:
            continue
        if kind == "answers late":
            time.sleep(3.0)
        if kind in ANSWERS:
            content = ANSWERS[kind]
            say(content.replace("%d", str(message["id"])) if isinstance(content, str) else {"id": message["id"], **content})
        elif kind in (*ONCE, "answers late", *FLOODS):
            say({"id": message["id"], "answer": {"runs": []}})


def main(kind: str) -> None:
    """Be bad in one way."""
    if kind == "ends before hello":
        return
    if kind == "silent before hello":
        sleep()
    if kind in ("floods before hello", "one endless line before hello"):
        for_ever(TEXTS[kind][0])
    if kind not in ("hello of wrong types", "hello is a list"):
        say(HELLO)
    if kind == "ends after hello":
        return
    if kind in TEXTS:
        report()
        for_ever(*TEXTS[kind])
    if kind in FLOODS:
        threading.Thread(target=answer_all, args=(kind,), daemon=True).start()
        for_ever(json.dumps(FLOODS[kind]).encode() + b"\n")
    if kind == "neither reports nor answers":
        sleep()
    if kind == "says an endless line":
        for_ever(ONCE[kind])
    report()
    if kind in ONCE:
        time.sleep(0.2)
        say(ONCE[kind])
    if kind == "answers nothing":
        sleep()
    answer_all(kind)


if __name__ == "__main__":
    main(sys.argv[1])
