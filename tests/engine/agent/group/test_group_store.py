"""The group's store: words, waits and bounds, beside a model of it; and torch's own view of it over a socket."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from paceline.engine.agent.group import group_store
from paceline.engine.agent.group.group_store import GroupStore
from paceline.engine.agent.group.store_relay import StoreRelay
from paceline.engine.protocol.store_words import FULL, LOST, REFUSED, TIMED_OUT, pack, unpack

from tests.support.installed import needs
from tests.support.runs.store_service import StoreService
from tests.support.waiting import loop_turns, until

SEED = 20261130


async def ask(store: GroupStore, word: str, **fields: Any) -> Any:
    """The value of an answer; of an error its kind."""
    answer = await store.answer({"ask": word, **fields})
    return answer["kind"] if "error" in answer else answer["value"]


async def test_words_drawn_at_random_do_what_a_dictionary_does() -> None:
    draw, store = random.Random(SEED), GroupStore(1, lambda: None)
    model: dict[str, bytes] = {}
    for _ in range(3000):
        key, value = draw.choice("abcdef"), draw.randbytes(draw.randrange(4))
        match draw.randrange(8):
            case 0:
                assert await ask(store, "set", pairs={key: pack(value)}) is None
                model[key] = value
            case 1:
                await ask(store, "append", key=key, data=pack(value))
                model[key] = model.get(key, b"") + value
            case 2:
                number = f"n{key}"
                total = int(model.get(number, b"0")) + 3
                assert await ask(store, "add", key=number, amount=3) == total
                model[number] = str(total).encode()
            case 3:
                expected = draw.choice([model.get(key, b""), b"other", b""])
                current = model.get(key)
                if current == expected or (current is None and not expected):
                    model[key] = current = value
                held = await ask(store, "compare_set", key=key, expected=pack(expected), desired=pack(value))
                assert unpack(held) == (expected if current is None else current)
            case 4:
                assert await ask(store, "delete", key=key) == (model.pop(key, None) is not None)
            case 5:
                keys = draw.sample("abcdef", 2)
                assert await ask(store, "check", keys=keys) == all(one in model for one in keys)
            case 6:
                assert await ask(store, "count") == len(model)
            case 7:
                answer = await ask(store, "get", keys=[key], timeout=0)
                assert answer == ([pack(model[key])] if key in model else TIMED_OUT)
        assert store._bytes == sum(len(name) + len(held) for name, held in model.items())
    assert store._waiting == {}


async def test_a_wait_ends_when_the_last_key_is_set_and_names_the_missing_ones_in_time() -> None:
    store = GroupStore(1, lambda: None)
    waiting = [asyncio.ensure_future(ask(store, "get", keys=["a", "b"], timeout=600)) for _ in range(3)]
    await loop_turns()
    await ask(store, "set", pairs={"b": pack(b"2")})
    await loop_turns()
    assert not any(task.done() for task in waiting)
    await ask(store, "set", pairs={"a": pack(b"1")})
    assert await asyncio.gather(*waiting) == [[pack(b"1"), pack(b"2")]] * 3
    answer = await store.answer({"ask": "wait", "keys": ["a", "c", "d"], "timeout": 0.0})
    assert answer == {"error": "not set within 0 s: c, d", "kind": TIMED_OUT}


async def test_what_a_store_holds_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_store, "MAX_STORE_BYTES", 1000)
    monkeypatch.setattr(group_store, "MAX_VALUE_BYTES", 400)
    store = GroupStore(1, lambda: None)
    assert await ask(store, "set", pairs={"a": pack(bytes(401))}) == FULL
    assert await ask(store, "set", pairs={"k" * 5000: pack(b"")}) == FULL
    for key in "ab":
        assert await ask(store, "set", pairs={key: pack(bytes(400))}) is None
    assert await ask(store, "append", key="c", data=pack(bytes(300))) == FULL
    assert await ask(store, "delete", key="a") is True
    assert await ask(store, "append", key="c", data=pack(bytes(300))) is None


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"ask": "pickle"},
        {"ask": []},
        {"ask": "set"},
        {"ask": "set", "pairs": {"a": "?"}},
        {"ask": "set", "pairs": {"a": 1}},
        {"ask": "get", "keys": ["a"], "timeout": float("nan")},
        {"ask": "get", "keys": ["a"], "timeout": float("inf")},
        {"ask": "get", "keys": ["a"], "timeout": -1},
        {"ask": "get", "keys": 7, "timeout": 1},
        {"ask": "add", "key": "text", "amount": 1},
        {"ask": "finish", "rank": "x", "timeout": 1},
    ],
)
async def test_a_request_that_makes_no_sense_is_refused(request_: dict[str, Any]) -> None:
    store = GroupStore(1, lambda: None)
    await ask(store, "set", pairs={"text": pack(b"text")})
    assert (await store.answer(request_))["kind"] == REFUSED


async def test_words_of_other_nodes_reach_the_keeper_and_fail_when_it_is_gone() -> None:
    relays: dict[str, StoreRelay] = {}

    def send(sender: str) -> Any:
        return lambda message, to: relays[to].on_message(sender, message)

    relays["n0"] = StoreRelay(GroupStore(2, lambda: None), "n0", send("n0"))
    relays["n1"] = StoreRelay(None, "n0", send("n1"))
    waiting = asyncio.ensure_future(relays["n1"].ask({"ask": "get", "keys": ["a"], "timeout": 60, "id": "its own"}))
    await loop_turns()
    await relays["n0"].ask({"ask": "set", "pairs": {"a": pack(b"1")}})
    assert await waiting == {"value": [pack(b"1")]}
    never = asyncio.ensure_future(relays["n1"].ask({"ask": "wait", "keys": ["b"], "timeout": 60}))
    await loop_turns()
    assert relays["n1"].on_message("n0", {"lost": "its runner was killed"}) is False
    assert (await never)["kind"] == LOST
    assert relays["n1"].on_message("n2", {"store_answer": {"id": 99, "value": "from a stranger"}}) is True


@needs("torch")
async def test_torch_sees_a_store_like_its_own(tmp_path: Path) -> None:
    import torch.distributed as dist
    from paceline.engine.training.group.run_store import RunStore
    from torch.distributed import HashStore, PrefixStore  # type: ignore[attr-defined]  # torch re-exports it implicitly

    service = StoreService([tmp_path], 1)
    service.start()
    try:
        store = RunStore(tmp_path)
        results = []
        pair: tuple[Any, Any] = (PrefixStore("p", store), PrefixStore("p", HashStore()))
        for one in pair:
            one.set("a", "1")
            one.append("a", "2")
            one.multi_set(["b", "c"], ["3", "4"])
            said = [one.get("a"), one.multi_get(["b", "c"]), one.add("n", 5), one.add("n", -2), one.check(["a", "b"])]
            said += [one.check(["z"]), one.compare_set("b", "3", "x"), one.compare_set("b", "3", "y"), one.get("b")]
            results.append([*said, one.delete_key("a"), one.check(["a"]), one.has_extended_api()])
        assert results[0] == results[1]
        assert store.num_keys() == 3
        with pytest.raises(dist.DistStoreError, match="not set within 0 s: never"):
            store.wait(["never"], timedelta(0))
        store.finish(0, 60.0)
        await until(service.is_finished.is_set)
    finally:
        service.stop()
    with pytest.raises(dist.DistNetworkError, match="the runner of this node is gone"):
        store.get("b")
