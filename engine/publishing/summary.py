"""One page in words: what was asked, what was found, why, and what to do. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..reports.document_type import Document, document_type

SMALL_SHARE = 0.10
"""Communication below this part of a step is not called a cause."""
WORTH_R = 3.0
"""R from which distributing is worth its communication in common practice."""


def summary_of(documents: Sequence[Document]) -> Iterator[str]:
    """Sentences about each result, in their order."""
    for document in documents:
        kind = document_type(document)
        if kind == "bench":
            yield from _bench(document)
        elif kind == "scale":
            yield from _scale(document)
        elif kind == "train":
            yield from _train(document)
        elif kind == "search":
            yield from _search(document)
        elif kind == "suite":
            yield from _suite(document)
        elif kind == "fit":
            yield from _fit(document)


def _bench(document: Document) -> Iterator[str]:
    cases = [case for case in document["cases"] if case["samples_per_second"] is not None]
    names = ", ".join(case["policy"] for case in document["cases"])
    yield f"Asked: which of {names} trains {document['workload']} fastest on {_devices(document)}."
    if not cases:
        yield "Found: no throughput is known: every case needs two epochs."
        return
    best = max(cases, key=lambda case: float(case["samples_per_second"]))
    yield f"Found: {best['policy']} with {best['samples_per_second']:,.0f} samples/s{_over_equal(best)}{_of_limit(best)}."
    if alike := [case["policy"] for case in cases if case is not best and _may_be_as_fast(case, best)]:
        yield f"Within the 95 % intervals {', '.join(alike)} may be as fast."
    equal = next((case for case in cases if case["policy"] == "equal"), None)
    if equal is not None and equal is not best:
        within = _is_within_noise(best)
        if within:
            yield "The difference to equal shares lies within the 95 % interval: no gain is shown."
        elif equal.get("imbalance") is not None and best.get("imbalance") is not None:
            yield f"Why: imbalance falls from {equal['imbalance']:.0%} to {best['imbalance']:.0%}; the fast devices no longer wait."
    yield from _bottleneck(best)


def _may_be_as_fast(case: Mapping[str, Any], best: Mapping[str, Any]) -> bool:
    """Whether the intervals of two throughputs overlap; False where one has none."""
    halves = [(one.get("half_widths") or {}).get("samples_per_second") for one in (case, best)]
    if None in halves:
        return False
    return bool(case["samples_per_second"] + halves[0] >= best["samples_per_second"] - halves[1])


def _is_within_noise(case: Mapping[str, Any]) -> bool:
    half, ratio = (case.get("half_widths") or {}).get("speedup_over_equal"), case.get("speedup_over_equal")
    return half is not None and ratio is not None and ratio - half <= 1.0


def _over_equal(case: Mapping[str, Any]) -> str:
    half = (case.get("half_widths") or {}).get("speedup_over_equal")
    spread = f" ± {half:.2f}" if half is not None else ""
    return f", {case['speedup_over_equal']:.2f}{spread} times equal shares" if case.get("speedup_over_equal") is not None else ""


def _of_limit(case: Mapping[str, Any]) -> str:
    return f", {case['balance_efficiency']:.0%} of what the devices manage alone" if case.get("balance_efficiency") else ""


def _devices(document: Document) -> str:
    count = len(document["devices"])
    label = "emulated device" if document.get("emulated") else "device"
    return f"{count} {label}{'s' if count != 1 else ''}"


def _scale(document: Document) -> Iterator[str]:
    yield f"Asked: how training {document['workload']} scales with the devices ({document['mode']} scaling, {document['policy']})."
    for sentence in document["verdict"]:
        yield f"Found: {sentence}."
    slow = [row for row in document["rows"] if row["zone"] == "negative"]
    for row in slow:
        over = f" over {row['link']}" if row["link"] else ""
        yield f"Negative scaling{over}: {len(row['devices'])} devices are slower than the row before."
    shares = [row for row in document["rows"] if (row["communication_share"] or 0.0) >= SMALL_SHARE]
    if shares:
        worst = max(shares, key=lambda row: float(row["communication_share"]))
        ratio = (
            f"; R = {worst['ratio']:.2f}, and below {WORTH_R:.0f} distributing seldom pays" if worst["ratio"] is not None else ""
        )
        yield f"Why: communication takes {worst['communication_share']:.0%} of a step of {len(worst['devices'])} devices{ratio}."
        yield "Do: a larger global batch, --compression, --accumulation or local steps; paceline advise computes each."
    elif not slow:
        yield "Do: nothing stands in the way of more devices."


def _search(document: Document) -> Iterator[str]:
    count = len(document["trials"])
    yield f"Asked: which of {count} trials of {document['workload']} has the best {document['metric']} ({document['direction']})."
    if document["best"] is None:
        yield "Found: no trial has a value."
        return
    params = ", ".join(f"{name} = {value}" for name, value in document["best"]["params"].items())
    yield f"Found: {document['metric']} {document['best']['value']:.5g} with {params}."
    if document["speedup"] is not None:
        how = "measured" if document.get("is_sequential_measured") else "computed"
        yield (
            f"All devices at once took {document['parallel_seconds']:.0f} s instead of {document['sequential_seconds']:.0f} s one"
            f" after another on the fastest device ({how}): {document['speedup']:.2f}x of at most {document['bound']:.2f}x."
        )


def _suite(document: Document) -> Iterator[str]:
    names = ", ".join(dict.fromkeys(row["workload"] for row in document["rows"]))
    yield f"Asked: which policy trains {names} fastest, over {document['repeats']} interleaved rounds."
    for name in dict.fromkeys(row["workload"] for row in document["rows"]):
        own = [row for row in document["rows"] if row["workload"] == name and row["samples_per_second"]["mean"] is not None]
        if not own:
            yield f"Found for {name}: no throughput is known."
            continue
        best = max(own, key=lambda row: float(row["samples_per_second"]["mean"]))
        gain = best["speedup_over_equal"]["mean"]
        over = f", {gain:.2f} times equal shares" if gain is not None else ""
        noise = ", a difference within the noise" if best["is_beyond_noise"] is False else ""
        yield f"Found for {name}: {best['policy']} with {best['samples_per_second']['mean']:,.0f} samples/s{over}{noise}."


def _fit(document: Document) -> Iterator[str]:
    size = f"{document['base_bytes'] / 1e6:,.1f} MB"
    limit = f"{document['memory_limit'] / 1e6:,.0f} MB of memory (imposed)"
    yield f"Asked: how many times {size} of {document['data']} fit into {limit} a process."
    for sentence in document["verdict"]:
        yield f"Found: {sentence}."


def _train(document: Document) -> Iterator[str]:
    last = document["epochs"][-1] if document["epochs"] else None
    yield f"Asked: {document['workload']} under {document.get('policy')} on {_devices(document)}."
    if last is None:
        yield f"Found: {document['state']}{': ' + document['reason'] if document.get('reason') else ''}; no epoch ended."
        return
    rate = document["samples_per_second"] or document["samples_per_second_all"]
    speed = f"{rate:,.0f} samples/s" if rate is not None else "an unknown throughput"
    quality = f", validation {last['metric_name']} {last['metric']:.4g}" if last.get("metric") is not None else ""
    yield f"Found: {document['state']} after {last['epoch']} epochs at {speed}{quality}."
    yield from _bottleneck(document)


def _bottleneck(case: Mapping[str, Any]) -> Iterator[str]:
    found = case.get("bottleneck")
    if found:
        share = f", {found['share']:.0%} of a step" if found.get("share") is not None else ""
        yield f"What limits it: {found['phase']}{share}."
        if found.get("advice"):
            yield f"Do: {found['advice']}."
