"""Renders the document of a verb as plain text, which --batch prints without --json."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from paceline.engine.reports.document_type import Document, document_type
from paceline.engine.reports.table import bench_table, train_table
from paceline.engine.states import FINAL
from paceline.engine.store.state import WAITING_JOB_ID

from ..terminal.format import (
    UNKNOWN,
    age,
    count,
    duration,
    local_time,
    loss,
    memory,
    number,
    pad,
    pad_left,
    percent,
    ratio,
    sanitize,
    size,
    tflops,
)
from .cluster_verbs import export_text, setup_text
from .data_verb import data_text
from .log_printer import log_text


def render(document: Document) -> str:
    """The document as aligned text, without a final newline. Every text in it is made safe, as other machines wrote it."""
    kind = document_type(document)
    if kind == "example":  # a file of this installation, with its own lines
        return str(document["source"]).rstrip("\n")
    if kind == "export":  # written by this program
        return export_text(document)
    return log_text(document) if kind == "logs" else _text(kind, _made_safe(document))  # a log line may be longer than a name


def _made_safe(value: Any) -> Any:
    """The same value with every text made safe to draw."""
    if isinstance(value, str):
        return sanitize(value)
    if isinstance(value, dict):
        return {key: _made_safe(item) for key, item in value.items()}
    return [_made_safe(item) for item in value] if isinstance(value, list | tuple) else value


def _text(kind: str, document: Document) -> str:
    match kind:
        case "bench":
            return bench_table(document).rstrip()
        case "train":
            return train_table(document).rstrip()
        case _:
            return _RENDERERS.get(kind, str)(document)


def recorded_result(path: Path, at: float | None = None, is_listing: bool = False) -> Document:
    """The last result in a recording; where there is none, or its marks are asked for, what it holds. ``at``: only up to then."""
    from paceline.engine.events import ResultDerived
    from paceline.engine.telemetry.recording import Recording

    recording = Recording(path)
    until = float("inf") if at is None else at
    events = 0
    last, document = 0.0, None
    for event in recording:
        if event.at > until:
            break
        events, last = events + 1, event.at
        if isinstance(event, ResultDerived):
            document = event.document
    if document is not None and not is_listing:
        return document
    recording.survey()
    marks = [mark for mark in recording.marks if mark.at <= until]
    return {
        "type": "replay",
        "recording": str(path),
        "events": events,
        "seconds": last,
        "length": recording.length,
        "marks": [{"at": mark.at, "kind": mark.kind, "text": mark.text, "run_id": mark.run_id or None} for mark in marks],
        "result": document,
    }


def _status(document: Document) -> str:
    lines = [f"{'node':<14}{'state':<12}{'device':<20}{'kind':<10}{'util':>6}  {'memory':>20}"]
    for node in document["nodes"]:
        head = pad(sanitize(node["name"]), 13) + " " + pad(node["state"], 11) + " "
        if not node["devices"]:
            hint = f" ({node['hint']})" if node.get("hint") else ""
            lines.append(head + (node["reason"] or UNKNOWN) + hint)
        for device in node["devices"]:
            used = memory(device["memory_used"], device["memory_total"])
            name = f"{device['index']} {sanitize(device['name'])}"
            util = pad_left(percent(device["utilization"]), 6)
            user = sanitize(device["holder_user"] or "unknown user")
            if device["error"]:
                lines.append(head + pad(name, 20) + device["error"])
                head = " " * 26
                continue
            holder = f"  {sanitize(device['holder'])} of {user}" if device["holder"] else ""
            lines.append(head + pad(name, 20) + pad(device["kind"], 10) + util + "  " + pad_left(used, 20) + holder)
            head = " " * 26
        if node.get("queue"):
            users = (f"{sanitize(one['user'])} {one['running']} running {one['waiting']} waiting" for one in node["queue"][:8])
            lines.append(f"{'':<14}{'queue':<12}{', '.join(users)}")
        lines += [f"{'':<14}{'warned':<12}{text}" for text in node["warnings"]]
    return "\n".join([*lines, *document["warnings"]])


def _emulated(document: Document) -> str:
    """The label of a result of emulated devices or an emulated network; empty for real ones."""
    return ", emulated" + (" (network too)" if document["emulated_network"] else "") if document["emulated"] else ""


def _plan(document: Document) -> str:
    weights = document.get("parameters")
    lines = [
        f"{document['workload']} on {count(len(document['devices']), 'device')}{_emulated(document)}, {document['backend']}: "
        + (
            f"{document['epochs']} epochs of {document['steps_per_epoch']} steps, global batch {document['global_batch_size']}"
            if document["steps_per_epoch"]
            else "its epochs and global batch are known when it runs"
        ),
        f"data: {document['data']['source']}"
        + (f", {document['samples_per_epoch']:,} training samples" if document["samples_per_epoch"] else "")
        + (f"; network of {weights:,} parameters" if weights else ""),
        *_gradient_lines(document),
        *(f"warning: {text}" for text in document.get("warnings", ())),
        f"{'rank':>4}  {'node':<14}{'device':<22}{'kind':<10}{'memory':>8}",
    ]
    for device in document["devices"]:
        name = f"{device['index']} {device['name']}"
        gib = "—" if device["memory"] is None else f"{device['memory'] / 2**30:.1f} GiB"
        start = f"{device['rank']:>4}  {pad(device['node'], 14)}{pad(name, 22)}{pad(device['kind'], 10)}{pad_left(gib, 8)}"
        lines.append(start + (f"  in use by {device['in_use']}" if device["in_use"] else ""))
    if all(case["predicted_samples_per_second"] is None for case in document["cases"]) and "script" not in document:
        lines.append(f"no profile yet, so no prediction: paceline profile --workload {document['workload']}")
    for case in document["cases"]:
        if case["predicted_samples_per_second"] is not None:
            doubt = "" if case.get("predicted_doubt") is None else f" ± {percent(case['predicted_doubt'])}"
            rate = f"{case['predicted_samples_per_second']:,.0f} samples/s{doubt}"
            lines.append(f"{case['policy']}: {rate} predicted from the profile")
        rate = case["expected_samples_per_second"]
        expected = "no similar run was measured here yet"
        if rate is not None:
            lasts = f", {duration(case['expected_seconds'])} expected" if case["expected_seconds"] is not None else ""
            expected = f"{rate:,.0f} samples/s{lasts}, as in run {case['as_measured_in']}"
        lines.append(f"{case['policy']}: {expected}")
    if document.get("firewall"):
        lines += [
            "to let only its nodes reach the ports of a run, on a network that is shared (SECURITY.md):",
            *document["firewall"],
        ]
    return "\n".join(lines)


def _gradient_lines(document: Document) -> list[str]:
    """Compression, local steps and emulated network; no line where gradients are sent unchanged over the real network."""
    options = [f"gradients as {document['compression']}"] if document["compression"] != "none" else []
    options += [f"weights averaged every {document['local_steps']} steps"] if document["local_steps"] > 1 else []
    link = document["declared_link"] if document["emulated_network"] else None
    jitter = f", jitter {percent(link['jitter'])}" if link and link["jitter"] else ""
    network = (
        f"emulated network: {link['latency'] * 1000:.2f} ms a hop, {_per_second(link['bandwidth'])} a link{jitter}" if link else ""
    )
    return [line for line in (", ".join(options), network) if line]


def _profile(document: Document) -> str:
    lines = [f"{document['workload']} on {count(len(document['devices']), 'device')}{_emulated(document)}"]
    heads = (("score", 7), ("TFLOPS", 9), ("samples/s", 11), ("fixed, ms", 11), ("error", 8), ("max batch", 11))
    lines.append(pad("node", 14) + pad("device", 22) + "".join(pad_left(name, width) for name, width in heads))
    for device in document["devices"]:
        each, fixed, off = device["fit"]["c"], device["fit"]["a"], device["fit"]["residual"]
        figures = (
            number(device["score"], 3),
            tflops(device["tflops"]["fp32"]),
            number(1 / each if each else None, 1),
            number(None if fixed is None else fixed * 1000, 2),
            UNKNOWN if off is None else f"{off * 100:.1f} %",
            number(device["largest_batch"]),
        )
        name = f"{device['index']} {device['name']}"
        cells = "".join(pad_left(text, width) for text, (_, width) in zip(figures, heads, strict=True))
        lines.append(pad(device["node"], 13) + " " + pad(name, 21) + " " + cells)
        if extras := _device_extras(device):
            lines.append(f"  {extras}")
        if device["error"]:
            lines.append(f"  {device['error']}")
        if device["drift"]:
            lines.append(f"  now takes {ratio(device['drift']['slowdown'])} the time: {device['drift']['reason'] or UNKNOWN}")
    for link in document["links"]:
        measured = link["error"] or f"{_microseconds(link['latency'])}, {_per_second(link['bandwidth'])}"
        lines.append(f"{link['from']} -> {link['to']}: {measured}")
    if all_reduce := document["all_reduce"]:
        model = f"{all_reduce['alpha'] * 1000:.2f} ms + bytes / {_per_second(all_reduce['beta'])}"
        lines.append(f"all-reduce of {count(all_reduce['ranks'], 'rank')}: {model}")
    for system in document["system"]:
        disk = f"disk {_per_second(system['disk_write'])} written, {_per_second(system['disk_read'])} read"
        products, copies = system.get("processor_tflops"), system.get("memory_bandwidth")
        speed = "" if products is None else f" of {tflops(products)} TFLOPS, memory {_per_second(copies)}"
        cores = f"{number(system['cores'])} cores{speed}"
        lines.append(f"{system['node']}: {system['processor'] or UNKNOWN}, {cores}; {system['error'] or disk}")
    return "\n".join(lines)


def _device_extras(device: Document) -> str:
    """Values that only some devices have: other number formats, bandwidths, power, and facts from the driver."""
    formats = ((form, device["tflops"][form]) for form in ("tf32", "bf16", "fp16"))
    values = [f"{form} {tflops(value)} TFLOPS" for form, value in formats if value is not None]
    bandwidths = (("within its memory", device["memory_bandwidth"]), ("from the host", device["host_to_device"]))
    values += [f"{_per_second(value)} {path}" for path, value in bandwidths if value is not None]
    if device["power"] is not None:
        values.append(f"{number(device['power'])} W")
    if device["joules_per_sample"] is not None:
        values.append(f"{device['joules_per_sample']:.3g} J a sample")
    facts = [f"{fact['name']} {fact['value']}" for fact in device["facts"] if fact["name"] not in ("python", "torch")]
    return ", ".join(sanitize(part) for part in values + facts)


MAX_CANDIDATES = 16
"""Candidates that are listed; --json has them all."""


def _advise(document: Document) -> str:
    batch = document["global_batch_size"]
    heads = (("samples/s", 11), ("±", 8), ("speed-up", 10), ("efficiency", 12), ("exchange", 11), ("R", 8))
    lines = [document["verdict"], "", f"{document['workload']} at a global batch of {batch}{_emulated(document)}, predicted:"]
    lines.append("  " + pad("devices", 34) + pad("policy", 14) + "".join(pad_left(name, width) for name, width in heads))
    candidates = [candidate for candidate in document["candidates"] if candidate["global_batch_size"] == batch]
    for candidate in candidates[:MAX_CANDIDATES]:
        devices = ",".join(f"{device['node']}:{device['index']}" for device in candidate["devices"])
        exposed = candidate["exposed_communication_seconds"]
        figures = (
            number(candidate["samples_per_second"], 1),
            percent(candidate.get("doubt")),
            ratio(candidate.get("speedup_at_batch", candidate["speedup"])),
            percent(candidate["efficiency"]),
            f"{exposed * 1000:.1f} ms",
            UNKNOWN if candidate["ratio"] is None else f"{candidate['ratio']:.2f}",
        )
        mark = "> " if candidate == document["recommended"] else "  "
        cells = "".join(pad_left(text, width) for text, (_, width) in zip(figures, heads, strict=True))
        lines.append(mark + pad(devices, 33) + " " + pad(candidate["policy"], 14) + cells)
    lines.append("  exchange: gradients are exchanged and nothing is computed; R: time of computing / time of exchanging,")
    lines.append("  below 1 a group mostly waits for its network, from 10 on the network hardly matters")
    if len(candidates) > MAX_CANDIDATES:
        lines.append(f"  {len(candidates) - MAX_CANDIDATES} more; --json has them all")
    best = document["best_single"]
    lines.append(f"best single device: {best['name']} of {best['node']}, {best['samples_per_second']:,.1f} samples/s")
    lines[-1] += f" at a batch of {best['global_batch_size']}; {percent(document['serial_part'])} of a step at {batch} is serial"
    min_batch, min_bandwidth = document["break_even_batch"], document["break_even_bandwidth"]
    lines.append(f"all devices give 1.1x from a global batch of {UNKNOWN if min_batch is None else f'{min_batch:,}'}")
    lines[-1] += ", with any link" if min_bandwidth == 0 else f", or from links of {_per_second(min_bandwidth)}"
    lines += document.get("causes") or []
    for remedy in document["remedies"]:
        cost = f"; {remedy['cost']}" if remedy.get("cost") else ""
        lines.append(f"{ratio(remedy['speedup'])}  {remedy['name']}: {remedy['options']}{cost}")
    if doubts := document.get("doubts"):
        lines.append("the doubt is from " + ", ".join(f"{doubt['reason']} ({percent(doubt['fraction'])})" for doubt in doubts[:3]))
    if measured := local_time(document["measured"], "%Y-%m-%d %H:%M"):
        old = age(time.time() - document["measured"])
        lines.append(f"from the profile of {measured}, {old} ago" + (", calibrated by a run" if document["calibrated"] else ""))
    return "\n".join(lines)


def _microseconds(seconds: float | None) -> str:
    return UNKNOWN if seconds is None else f"{seconds * 1e6:,.0f} µs"


def _per_second(rate: float | None) -> str:
    return UNKNOWN if rate is None else f"{size(int(rate))}/s"


def _jobs(document: Document) -> str:
    if not document["runs"]:
        return "no runs yet; paceline train starts one"
    heads = f"{'run':<22}{'state':<12}{'workload':<14}{'started':<17}{'took':>8}{'samples/s':>11}  {'metric':<15}"
    lines = [f"{heads}policies, nodes"]
    for run in document["runs"]:
        started = local_time(run["started"], "%Y-%m-%d %H:%M") or UNKNOWN
        took = duration(run["seconds"]) if run["state"] in FINAL else UNKNOWN if run["step"] is None else f"step {run['step']}"
        figures = pad_left(took, 8) + pad_left(number(run["samples_per_second"]), 11) + "  " + pad(_quality(run), 15)
        head = pad(run["run_id"], 21) + " " + pad(run["state"], 11) + " " + pad(run["workload"], 13) + " " + pad(started, 17)
        name = f"{run['name']}: " if run["name"] else ""
        lines.append(f"{head}{figures}{name}{', '.join(run['policies'])} on {', '.join(run['nodes'])}")
    return "\n".join(lines)


def _quality(run: Document) -> str:
    """The metric of a run's last epoch, else its loss."""
    if run["metric"] is not None and run["metric_name"] == "accuracy":
        return f"acc. {run['metric'] * 100:.1f} %"
    if run["metric"] is not None:
        return f"{run['metric_name']} {loss(run['metric'])}"
    return UNKNOWN if run["loss"] is None else f"loss {loss(run['loss'])}"


def _cancel(document: Document) -> str:
    if document["run_id"] == WAITING_JOB_ID:
        return "wait cancelled; nothing was started"
    processes = ", ".join(f"{process['pid']} on {process['node']}" for process in document["survivors"])
    rest = f"these processes could not be stopped: {processes}" if processes else "no process is left"
    return f"run {document['run_id']} {document['state']}: {rest}"


def _drain(document: Document) -> str:
    rows = (f"run {row['run_id']} goes on with {count(row['left'], 'device')}" for row in document["runs"])
    node = sanitize(document["node"])
    return f"{node} is drained, its devices are free: {', '.join(rows)}; paceline grow RUN --devices {node} brings it back"


def _grow(document: Document) -> str:
    return f"{', '.join(row['node'] for row in document['joining'])} joins run {document['run_id']} as soon as it is ready"


def _kill(document: Document) -> str:
    process = f"process {document['pid']} {sanitize(document['name'] or '')} of {sanitize(document['user'] or '—')}"
    outcomes = {
        "running": "runs; with --yes it is ended",
        "ended": "has ended",
        "killed": "did not end on SIGTERM and was killed",
        "stayed": "could not be killed: it hangs in the kernel",
    }
    return f"{document['node']}: {process} {outcomes[document['state']]}"


def _fetch(document: Document) -> str:
    files = document["files"]
    lines = [f"{file['node']}: {file['name']} {file['state']}: {file['reason']}" for file in files if file["reason"]]
    lines += [f"{node['name']}: {node['reason']}" for node in document["nodes"] if node["reason"]]
    present = [file for file in files if file["state"] in ("fetched", "present")]
    new = [file for file in present if file["state"] == "fetched"]
    summary = f"{count(len(new), 'file')} fetched, {size(sum(file['size'] for file in new))}"
    summary += f"; {len(present) - len(new)} were there already" if len(present) > len(new) else ""
    return "\n".join([*lines, f"{summary}; in {document['directory']}"])


def _clean(document: Document) -> str:
    lines = [f"{'node':<14}{'what':<9}{'name':<24}{'size':>10}  state"]
    for item in document["things"]:
        name = item["name"] if item["kind"] == "runs" else item["name"][:12] + "…"
        head = pad(item["node"], 13) + " " + pad(item["kind"].removesuffix("s"), 9) + pad(name, 24)
        lines.append(
            f"{head}{pad_left(size(item['size']), 10)}  {item['state']}" + (f": {item['reason']}" if item["reason"] else "")
        )
    lines += [f"{node['name']}: {node['reason']}" for node in document["nodes"] if node["reason"]]
    outcome = "removed" if document["removed"] else "would be removed; with --yes it is"
    return "\n".join([*(lines if len(lines) > 1 else []), f"{size(document['bytes'])} {outcome}"])


def _compare(document: Document) -> str:
    lines = [f"{document['a'] or 'A'} against {document['b'] or 'B'}"]
    lines += [f"not comparable: {document['reason']}"] if not document["comparable"] else []
    for difference in document["differences"]:
        lines.append(f"  {pad(difference['name'], 20)} {_short(difference['a'])} -> {_short(difference['b'])}")
    if document["metrics"]:
        lines.append(f"{pad('metric', 34)}{pad_left('A', 12)}{pad_left('B', 12)}{pad_left('change', 10)}")
    verdicts = {True: "beyond the noise", False: "within the noise", None: ""}
    for metric in document["metrics"]:
        change = UNKNOWN if metric["change"] is None else f"{metric['change'] * 100:+.1f} %"
        values = "".join(pad_left(f"{metric[side]:.6g}", 12) for side in ("a", "b"))
        lines.append(f"{pad(metric['name'], 34)}{values}{pad_left(change, 10)}  {verdicts[metric['is_beyond_noise']]}".rstrip())
    lines += [f"regression: {sentence}" for sentence in document["regressions"]]
    return "\n".join(lines)


def _report(document: Document) -> str:
    files = [f"  {path}" for path in document["files"]]
    return "\n".join([*document["summary"], *document["notes"], f"{count(len(files), 'file')} in {document['directory']}", *files])


def _scale(document: Document) -> str:
    title = f"{document['name']}: {document['mode']} scaling of {document['workload']}, {document['policy']}"
    lines = [f"{title}, {count(document['repeats'], 'round')}{_emulated(document)}"]
    lines += [f"{document['state']}: {document['reason']}"] if document["reason"] else []
    for link in document["links"]:
        if link is not None:
            jitter = f", jitter {percent(link['jitter'])}" if link["jitter"] else ""
            latency, bandwidth = _microseconds(link["latency"]), _per_second(link["bandwidth"])
            lines.append(f"network {link['name']}: {latency} a hop, {bandwidth}{jitter} (emulated)")
        lines.append(
            f"{pad('devices', 34)}{pad_left('samples/s', 11)}{pad_left('±', 7)}{pad_left('speed-up', 10)}{pad_left('ideal', 8)}"
            f"{pad_left('predicted', 11)}{pad_left('efficiency', 12)}{pad_left('comm', 7)}{pad_left('R', 7)}  zone"
        )
        name = link and link["name"]
        lines += [_scale_row(row) for row in document["rows"] if row["link"] == name]
        serial = next((fit["serial_part"] for fit in document["amdahl"] if fit["link"] == name), None)
        lines += [f"Amdahl: {percent(serial)} of a step does not shrink with the devices"] if serial is not None else []
    lines += document["verdict"] + [f"warning: {sentence}" for sentence in document["warnings"]]
    return "\n".join(lines)


def _scale_row(row: Document) -> str:
    rate, devices = row["samples_per_second"], ",".join(row["devices"])
    cells = (
        (number(rate["mean"]), 11),
        (number(rate["ci95"]), 7),
        (ratio(row["speedup"]), 10),
        (ratio(row["ideal_speedup"]), 8),
        (ratio(row["predicted_speedup"]), 11),
        (percent(row["efficiency"]), 12),
        (percent(row["communication_share"]), 7),
        (UNKNOWN if row["ratio"] is None else f"{row['ratio']:.1f}", 7),
    )
    text = devices if len(devices) <= 33 else devices[:32] + "…"
    return pad(text, 34) + "".join(pad_left(cell, width) for cell, width in cells) + f"  {row['zone'] or ''}".rstrip()


def _suite(document: Document) -> str:
    title = f"{document['name']}: {count(document['repeats'], 'round')}{_emulated(document)}"
    lines = [title] + ([f"{document['state']}: {document['reason']}"] if document["reason"] else [])
    lines.append(
        f"{pad('workload', 16)}{pad('policy', 14)}{pad_left('samples/s', 11)}{pad_left('±', 7)}{pad_left('over equal', 12)}"
        f"{pad_left('efficiency', 12)}{pad_left('utilization', 13)}{pad_left('imbalance', 11)}{pad_left('s to target', 13)}"
        "  difference"
    )
    verdicts = {True: "beyond the noise", False: "within the noise", None: ""}
    for row in document["rows"]:
        rate, target = row["samples_per_second"], row["seconds_to_target"]["mean"]
        cells = (
            (number(rate["mean"]), 11),
            (number(rate["ci95"]), 7),
            (ratio(row["speedup_over_equal"]["mean"]), 12),
            (percent(row["balance_efficiency"]["mean"]), 12),
            (percent(row["utilization"]["mean"]), 13),
            (percent(row["imbalance"]["mean"]), 11),
            (UNKNOWN if target is None else f"{target:.1f}", 13),
        )
        line = pad(row["workload"], 16) + pad(row["policy"], 14) + "".join(pad_left(cell, width) for cell, width in cells)
        lines.append(f"{line}  {verdicts[row['is_beyond_noise']]}".rstrip())
    return "\n".join(lines + [f"warning: {sentence}" for sentence in document["warnings"]])


def _search(document: Document) -> str:
    title = f"{document['name']}: {count(len(document['trials']), 'trial')} of {document['workload']}{_emulated(document)}"
    lines = [title] + ([f"{document['state']}: {document['reason']}"] if document["reason"] else [])
    lines.append(
        f"{pad_left('trial', 6)}  {pad('parameters', 44)}{pad_left(document['metric'], 12)}{pad_left('seconds', 9)}  device"
    )
    is_more = document["direction"] == "max"
    worst = float("-inf") if is_more else float("inf")
    order = sorted(document["trials"], key=lambda one: worst if one["value"] is None else one["value"], reverse=is_more)
    for trial in order:
        params = ", ".join(f"{name}={_brief(value)}" for name, value in trial["params"].items())
        params += f", {trial['epochs']} epochs" if trial["rung"] is not None and document["sampler"] == "halving" else ""
        value = trial["state"] if trial["value"] is None else f"{trial['value']:.6g}"
        seconds = UNKNOWN if trial["seconds"] is None else f"{trial['seconds']:.1f}"
        line = f"{pad_left(str(trial['trial']), 6)}  {pad(_short(params), 44)}{pad_left(value, 12)}{pad_left(seconds, 9)}"
        lines.append(f"{line}  {trial['device'] or UNKNOWN}{'  ' + trial['reason'] if trial['reason'] else ''}")
    if document["parallel_seconds"] is not None:
        how = "measured" if document["is_sequential_measured"] else "computed"
        lines.append(
            f"{duration(document['parallel_seconds'])} instead of {duration(document['sequential_seconds'])} one after another on"
            f" the fastest device ({how}): {ratio(document['speedup'])}, at best {ratio(document['bound'])};"
            f" utilization {percent(document['utilization'])}"
        )
    return "\n".join(lines + [f"warning: {sentence}" for sentence in document["warnings"]])


def _brief(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _fit(document: Document) -> str:
    base = f"1x is {document['base_rows']:,} rows of {document['data']}, {document['base_bytes'] / 1e6:,.1f} MB"
    limits = f"each process may take {document['memory_limit'] / 1e6:,.0f} MB (imposed) and {document['time_limit']:,.0f} s"
    lines = [f"{document['name']}: {base}; {limits}; {count(document['repeats'], 'round')}{_emulated(document)}"]
    lines += [f"{document['state']}: {document['reason']}"] if document["reason"] else []
    lines.append(
        f"{pad('place', 16)}{pad_left('multiple', 9)}{pad_left('data MB', 10)}  {pad('held', 11)}{pad('outcome', 10)}"
        f"{pad_left('peak MB', 9)}{pad_left('seconds', 9)}  limit"
    )
    for row in document["rows"]:
        peak = UNKNOWN if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e6:,.0f}"
        taken = UNKNOWN if row["seconds"] is None else f"{row['seconds']:.1f}"
        size, times = f"{row['data_bytes'] / 1e6:,.0f}", f"{row['multiplier']}x"
        start = f"{pad(row['place'], 16)}{pad_left(times, 9)}{pad_left(size, 10)}  {pad(row['data'], 11)}{pad(row['outcome'], 10)}"
        reason = f"  {row['reason']}" if row["outcome"] == "failed" and row["reason"] else ""
        lines.append(f"{start}{pad_left(peak, 9)}{pad_left(taken, 9)}  {row['limited_by'] or ''}{reason}".rstrip())
    return "\n".join(lines + document["verdict"] + [f"warning: {sentence}" for sentence in document["warnings"]])


def _short(value: Any) -> str:
    text = UNKNOWN if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _replay(document: Document) -> str:
    has_result = "a result" if document["result"] is not None else "no result"
    length = "" if document["length"] is None else f", {duration(document['length'])} long"
    lines = [f"{sanitize(document['recording'])}: {count(document['events'], 'event')}{length}, {has_result}"]
    lines += [f"{duration(mark['at']):>8}  {mark['kind']:<11} {sanitize(mark['text'])}" for mark in document["marks"]]
    return "\n".join(lines)


_RENDERERS = {
    "advise": _advise,
    "cancel": _cancel,
    "clean": _clean,
    "compare": _compare,
    "data": data_text,
    "fetch": _fetch,
    "fit": _fit,
    "jobs": _jobs,
    "drain": _drain,
    "grow": _grow,
    "kill": _kill,
    "setup": setup_text,
    "picture": lambda document: f"{document['screen']} at {duration(document['at'])}: {document['file']}",
    "plan": _plan,
    "profile": _profile,
    "replay": _replay,
    "report": _report,
    "scale": _scale,
    "search": _search,
    "suite": _suite,
    "status": _status,
}
"""Renderer of each document type, except results and logs."""
