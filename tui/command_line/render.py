"""Documents of verbs as plain text for a person: what --batch prints without --json."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from paceline.engine.reports.document_type import document_type
from paceline.engine.reports.table import bench_table, train_table
from paceline.engine.store.state import WAITING

from ..terminal.format import UNKNOWN, age, count, duration, memory, moment, number, pad, pad_left, percent, ratio, size, untrusted
from .log_printer import log_text

Document = dict[str, Any]


def render(document: Document) -> str:
    """The document of a verb as aligned text, without a newline at the end. Names and reasons in it are other machines' words."""
    kind = document_type(document)
    return log_text(document) if kind == "logs" else _text(kind, _gated(document))  # a line of a log may be longer than a name


def _gated(value: Any) -> Any:
    """The same document with every text made safe to draw."""
    if isinstance(value, str):
        return untrusted(value)
    if isinstance(value, dict):
        return {key: _gated(item) for key, item in value.items()}
    return [_gated(item) for item in value] if isinstance(value, list | tuple) else value


def _text(kind: str, document: Document) -> str:
    match kind:
        case "bench":
            return bench_table(document).rstrip()
        case "train":
            return train_table(document).rstrip()
        case _:
            return _TEXTS.get(kind, str)(document)


def replayed(path: Path) -> Document:
    """The last result in a recording, or how many events it holds when there is none."""
    from paceline.engine.events import ResultDerived
    from paceline.engine.telemetry.recording import Recording

    events = 0
    document: Document = {}
    for event in Recording(path):
        events += 1
        if isinstance(event, ResultDerived):
            document = event.document
    return document or {"type": "replay", "recording": str(path), "events": events, "result": None}


def _status(document: Document) -> str:
    lines = [f"{'node':<14}{'state':<12}{'device':<20}{'kind':<10}{'util':>6}  {'memory':>20}"]
    for node in document["nodes"]:
        head = pad(untrusted(node["name"]), 13) + " " + pad(node["state"], 11) + " "
        if not node["devices"]:
            lines.append(head + untrusted(node["reason"] or "—"))
        for device in node["devices"]:
            used = memory(device["memory_used"], device["memory_total"])
            name = f"{device['index']} {untrusted(device['name'])}"
            util = pad_left(percent(device["utilization"]), 6)
            holder = (
                f"  {untrusted(device['holder'])} of {untrusted(device['holder_user'] or 'somebody')}" if device["holder"] else ""
            )
            lines.append(head + pad(name, 20) + pad(device["kind"], 10) + util + "  " + pad_left(used, 20) + holder)
            head = " " * 26
    return "\n".join(lines)


def _emulated(document: Document) -> str:
    """The label of what was not measured on real machines."""
    return ", emulated" + (" (network too)" if document["emulated_network"] else "") if document["emulated"] else ""


def _plan(document: Document) -> str:
    weights = document.get("parameters")
    lines = [
        f"{document['workload']} on {count(len(document['devices']), 'device')}{_emulated(document)}, {document['backend']}: "
        f"{document['epochs']} epochs of {document['steps_per_epoch']} steps, global batch {document['global_batch_size']}",
        f"data: {document['data']['source']}, {document['samples_per_epoch']:,} training samples"
        + (f"; network of {weights:,} parameters" if weights else ""),
        *_exchange(document),
        f"{'rank':>4}  {'node':<14}{'device':<22}{'kind':<10}{'memory':>8}",
    ]
    for device in document["devices"]:
        name = f"{device['index']} {device['name']}"
        gib = "—" if device["memory"] is None else f"{device['memory'] / 2**30:.1f} GiB"
        start = f"{device['rank']:>4}  {pad(device['node'], 14)}{pad(name, 22)}{pad(device['kind'], 10)}{pad_left(gib, 8)}"
        lines.append(start + (f"  in use by {device['in_use']}" if device["in_use"] else ""))
    if all(case["predicted_samples_per_second"] is None for case in document["cases"]):
        lines.append(f"no profile yet, so no prediction: paceline profile --workload {document['workload']}")
    for case in document["cases"]:
        if case["predicted_samples_per_second"] is not None:
            lines.append(f"{case['policy']}: {case['predicted_samples_per_second']:,.0f} samples/s predicted from the profile")
        rate = case["expected_samples_per_second"]
        told = "nothing alike was measured here yet"
        if rate is not None:
            told = f"{rate:,.0f} samples/s, {duration(case['expected_seconds'])} expected, as in run {case['as_measured_in']}"
        lines.append(f"{case['policy']}: {told}")
    return "\n".join(lines)


def _exchange(document: Document) -> list[str]:
    """How gradients travel, where that is not as they are over what is there."""
    told = [f"gradients as {document['compression']}"] if document["compression"] != "none" else []
    told += [f"weights averaged every {document['local_steps']} steps"] if document["local_steps"] > 1 else []
    link = document["declared_link"] if document["emulated_network"] else None
    jitter = f", jitter {percent(link['jitter'])}" if link and link["jitter"] else ""
    wire = (
        f"emulated network: {link['latency'] * 1000:.2f} ms a hop, {_per_second(link['bandwidth'])} a link{jitter}" if link else ""
    )
    return [line for line in (", ".join(told), wire) if line]


def _profile(document: Document) -> str:
    lines = [f"{document['workload']} on {count(len(document['devices']), 'device')}{_emulated(document)}"]
    heads = (("score", 7), ("TFLOPS", 9), ("samples/s", 11), ("a, ms", 8), ("residual", 10), ("at once", 11))
    lines.append(pad("node", 14) + pad("device", 22) + "".join(pad_left(name, width) for name, width in heads))
    for device in document["devices"]:
        each, fixed, off = device["fit"]["c"], device["fit"]["a"], device["fit"]["residual"]
        figures = (
            number(device["score"], 3),
            number(device["tflops"]["fp32"], 1),
            number(1 / each if each else None, 1),
            number(None if fixed is None else fixed * 1000, 2),
            UNKNOWN if off is None else f"{off * 100:.1f} %",
            number(device["largest_batch"]),
        )
        name = f"{device['index']} {device['name']}"
        told = "".join(pad_left(text, width) for text, (_, width) in zip(figures, heads, strict=True))
        lines.append(pad(device["node"], 13) + " " + pad(name, 21) + " " + told)
        more = _more(device)
        if more:
            lines.append(f"  {more}")
        if device["error"]:
            lines.append(f"  {device['error']}")
        if device["drift"]:
            lines.append(f"  takes {ratio(device['drift']['slowdown'])} the time of before: {device['drift']['reason'] or UNKNOWN}")
    lines += [
        f"{link['from']} -> {link['to']}: " + (link["error"] or f"{_micro(link['latency'])}, {_per_second(link['bandwidth'])}")
        for link in document["links"]
    ]
    total = document["all_reduce"]
    if total:
        told = f"{total['alpha'] * 1000:.2f} ms + bytes / {_per_second(total['beta'])}"
        lines.append(f"all-reduce of {count(total['ranks'], 'rank')}: {told}")
    for system in document["system"]:
        disk = f"disk {_per_second(system['disk_write'])} written, {_per_second(system['disk_read'])} read"
        lines.append(
            f"{system['node']}: {system['processor'] or UNKNOWN}, {number(system['cores'])} cores; {system['error'] or disk}"
        )
    return "\n".join(lines)


def _more(device: Document) -> str:
    """What only some devices have: other formats, bandwidths, watts, and what the driver says."""
    formats = ((form, device["tflops"][form]) for form in ("tf32", "bf16", "fp16"))
    told = [f"{form} {number(value, 1)} TFLOPS" for form, value in formats if value is not None]
    ways = (("within its memory", device["memory_bandwidth"]), ("from the host", device["host_to_device"]))
    told += [f"{_per_second(value)} {way}" for way, value in ways if value is not None]
    if device["power"] is not None:
        told.append(f"{number(device['power'])} W")
    if device["joules_per_sample"] is not None:
        told.append(f"{device['joules_per_sample']:.3g} J a sample")
    said = [f"{fact['name']} {fact['value']}" for fact in device["facts"] if fact["name"] not in ("python", "torch")]
    return ", ".join(untrusted(part) for part in told + said)


CANDIDATES = 16
"""Ways to train that are listed; --json has them all."""


def _advise(document: Document) -> str:
    batch = document["global_batch_size"]
    heads = (("samples/s", 11), ("speed-up", 10), ("efficiency", 12), ("exposed", 11), ("ratio", 8))
    lines = [document["verdict"], "", f"{document['workload']} at a global batch of {batch}{_emulated(document)}, predicted:"]
    lines.append("  " + pad("devices", 34) + pad("policy", 14) + "".join(pad_left(name, width) for name, width in heads))
    alike = [one for one in document["candidates"] if one["global_batch_size"] == batch]
    for one in alike[:CANDIDATES]:
        devices = ",".join(f"{device['node']}:{device['index']}" for device in one["devices"])
        exposed = one["exposed_communication_seconds"]
        figures = (
            number(one["samples_per_second"], 1),
            ratio(one["speedup"]),
            percent(one["efficiency"]),
            f"{exposed * 1000:.1f} ms",
            UNKNOWN if one["ratio"] is None else f"{one['ratio']:.2f}",
        )
        mark = "> " if one == document["recommended"] else "  "
        told = "".join(pad_left(text, width) for text, (_, width) in zip(figures, heads, strict=True))
        lines.append(mark + pad(devices, 33) + " " + pad(one["policy"], 14) + told)
    if len(alike) > CANDIDATES:
        lines.append(f"  {len(alike) - CANDIDATES} more; --json has them all")
    best = document["best_single"]
    lines.append(f"best single device: {best['name']} of {best['node']}, {best['samples_per_second']:,.1f} samples/s")
    lines[-1] += f" at a batch of {best['global_batch_size']}; {percent(document['serial_part'])} of a step at {batch} is serial"
    least, wire = document["break_even_batch"], document["break_even_bandwidth"]
    lines.append(f"all devices give 1.1x from a global batch of {UNKNOWN if least is None else f'{least:,}'}")
    lines[-1] += ", with any link" if wire == 0 else f", or from links of {UNKNOWN if wire is None else _per_second(wire)}"
    lines += [f"{ratio(remedy['speedup'])}  {remedy['name']}: {remedy['options']}" for remedy in document["remedies"]]
    if then := moment(document["measured"], "%Y-%m-%d %H:%M"):
        old = age(time.time() - document["measured"])
        lines.append(f"from the profile of {then}, {old} ago" + (", taught by a run" if document["calibrated"] else ""))
    return "\n".join(lines)


def _micro(seconds: float | None) -> str:
    return UNKNOWN if seconds is None else f"{seconds * 1e6:,.0f} µs"


def _per_second(rate: float | None) -> str:
    return UNKNOWN if rate is None else f"{size(int(rate))}/s"


def _jobs(document: Document) -> str:
    if not document["runs"]:
        return "no runs yet; paceline train starts one"
    lines = [f"{'run':<24}{'state':<13}{'workload':<14}{'started':<18}{'step':>6}  nodes"]
    for run in document["runs"]:
        started = moment(run["started"], "%Y-%m-%d %H:%M") or "—"
        step = "—" if run["step"] is None else str(run["step"])
        nodes = untrusted(", ".join(run["nodes"]))
        what = pad(run["run_id"], 24) + pad(run["state"], 13) + pad(untrusted(run["workload"]), 14)
        lines.append(what + pad(started, 18) + pad_left(step, 6) + f"  {nodes}")
    return "\n".join(lines)


def _cancel(document: Document) -> str:
    if document["run_id"] == WAITING:
        return "nobody waits for devices any more; nothing was started"
    stayed = ", ".join(f"{survivor['pid']} on {survivor['node']}" for survivor in document["survivors"])
    left = f"these processes could not be stopped: {stayed}" if stayed else "no process is left"
    return f"run {document['run_id']} {document['state']}: {left}"


def _kill(document: Document) -> str:
    who = f"process {document['pid']} {untrusted(document['name'] or '')} of {untrusted(document['user'] or '—')}"
    ends = {
        "running": "runs; with --yes it is ended",
        "ended": "has ended",
        "killed": "did not end by itself and was killed",
        "stayed": "could not be killed: it hangs in the kernel",
    }
    return f"{document['node']}: {who} {ends[document['state']]}"


def _fetch(document: Document) -> str:
    files = document["files"]
    lines = [f"{file['node']}: {file['name']} {file['state']}: {file['reason']}" for file in files if file["reason"]]
    lines += [f"{node['name']}: {node['reason']}" for node in document["nodes"] if node["reason"]]
    here = [file for file in files if file["state"] in ("fetched", "present")]
    new = [file for file in here if file["state"] == "fetched"]
    told = f"{count(len(new), 'file')} fetched, {size(sum(file['size'] for file in new))}"
    told += f"; {len(here) - len(new)} were there already" if len(here) > len(new) else ""
    return "\n".join([*lines, f"{told}; in {document['directory']}"])


def _clean(document: Document) -> str:
    lines = [f"{'node':<14}{'what':<9}{'name':<24}{'size':>10}  state"]
    for thing in document["things"]:
        name = thing["name"] if thing["kind"] == "runs" else thing["name"][:12] + "…"
        what = pad(thing["node"], 13) + " " + pad(thing["kind"].removesuffix("s"), 9) + pad(name, 24)
        lines.append(
            f"{what}{pad_left(size(thing['size']), 10)}  {thing['state']}" + (f": {thing['reason']}" if thing["reason"] else "")
        )
    lines += [f"{node['name']}: {node['reason']}" for node in document["nodes"] if node["reason"]]
    word = "removed" if document["removed"] else "would be removed; with --yes it is"
    return "\n".join([*(lines if len(lines) > 1 else []), f"{size(document['bytes'])} {word}"])


def _replay(document: Document) -> str:
    return f"{document['recording']}: {count(document['events'], 'event')}, no result"


_TEXTS = {
    "advise": _advise,
    "cancel": _cancel,
    "clean": _clean,
    "fetch": _fetch,
    "jobs": _jobs,
    "kill": _kill,
    "plan": _plan,
    "profile": _profile,
    "replay": _replay,
    "status": _status,
}
"""The text of every document but results and logs, by its type."""
