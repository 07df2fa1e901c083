"""What a screen shows of an experiment, whatever its kind: progress, a table, a time line of devices, curves. Pure.

A board is plain JSON, made of the document of the experiment and of what its runs have told since.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..reports.document_type import Document

Cells = list[str]
UNKNOWN = "—"


def board_of(document: Mapping[str, Any], running: Sequence[Mapping[str, Any]] = (), note: str = "") -> Document | None:
    """The board of an experiment's document; None for a document of another kind.

    ``running``: trials that go on, as ``{"trial", "device", "start"}``; ``note``: what goes on now.
    """
    make = _BOARDS.get(str(document.get("type")))
    if make is None:
        return None
    shared = {
        "kind": document["type"],
        "name": str(document.get("name") or ""),
        "state": document.get("state") or "",
        "reason": document.get("reason"),
        "is_emulated": bool(document.get("emulated")),
        "note": note,
        "spans": [],
        "curves": [],
        "best": "",
    }
    board = shared | make(document, running)
    board["columns"] = [{"name": name, "width": width, "is_number": bool(kind)} for name, width, kind in board["columns"]]
    return board


def _search(document: Mapping[str, Any], running: Sequence[Mapping[str, Any]]) -> Document:
    trials = document["trials"]
    over = [trial for trial in trials if trial["state"] != "missing"]
    is_more = document["direction"] == "max"
    goes_on = {one["trial"]: one["device"] for one in running}
    rows = [
        [
            str(trial["trial"]),
            _params(trial),
            _number(trial["value"]) if trial["value"] is not None else "runs" if trial["trial"] in goes_on else trial["state"],
            _seconds(trial["seconds"]),
            trial["device"] or goes_on.get(trial["trial"]) or UNKNOWN,
        ]
        for trial in sorted(trials, key=lambda one: (one["value"] is None, (one["value"] or 0.0) * (-1 if is_more else 1)))
    ]
    best = document["best"]
    spans = [
        {
            "lane": trial["device"],
            "start": max(0.0, trial["ended_seconds"] - trial["seconds"]),
            "end": trial["ended_seconds"],
            "label": str(trial["trial"]),
            "state": trial["state"],
        }
        for trial in over
        if trial["device"] and trial["seconds"] is not None and trial.get("ended_seconds") is not None
    ]
    spans += [
        {"lane": one["device"], "start": one["start"], "end": None, "label": str(one["trial"]), "state": "running"}
        for one in running
    ]
    points: list[list[float]] = []
    for trial in sorted(over, key=lambda one: one.get("ended_seconds") or 0.0):
        if trial["value"] is not None:
            value = float(trial["value"])
            value = value if not points else (max if is_more else min)(value, points[-1][1])
            points.append([len(points) + 1.0, value])
    return {
        "over": len(over),
        "total": len(trials),
        "best": f"trial {best['trial']}, {document['metric']} {_number(best['value'])}: {_params(best)}" if best else "",
        "columns": [["trial", 6, 1], ["parameters", 44, 0], [document["metric"], 12, 1], ["seconds", 9, 1], ["device", 14, 0]],
        "rows": rows,
        "spans": spans,
        "curves": [{"name": f"best {document['metric']} so far", "points": points}],
        "across": "trials that have ended",
    }


def _scale(document: Mapping[str, Any], running: Sequence[Mapping[str, Any]]) -> Document:
    rows, curves = [], []
    networks = list(dict.fromkeys(row["link"] for row in document["rows"]))
    for row in document["rows"]:
        name = ",".join(row["devices"]) + (f" over {row['link']}" if row["link"] else "")
        figures = (row["speedup"], row["ideal_speedup"], row["predicted_speedup"])
        texts = [UNKNOWN if value is None else f"{value:.2f}x" for value in figures]
        rate = row["samples_per_second"]["mean"]
        rows.append(
            [
                name,
                UNKNOWN if rate is None else f"{rate:,.0f}",
                *texts,
                _part(row["efficiency"]),
                _part(row["communication_share"]),
                row["zone"] or "",
            ]
        )
    for network in networks:
        own = [row for row in document["rows"] if row["link"] == network]
        over = f" over {network}" if network else ""
        for key, name in (("speedup", "measured"), ("ideal_speedup", "ideal"), ("predicted_speedup", "predicted")):
            points = [[float(len(row["devices"])), row[key]] for row in own if row[key] is not None]
            if points and (key == "speedup" or network == networks[0] or key == "predicted_speedup"):
                curves.append({"name": name + over, "points": points})
    over_all = sum(len(row["samples_per_second_of_repeats"]) for row in document["rows"])
    return {
        "over": over_all,
        "total": len(document["rows"]) * document["repeats"],
        "best": "; ".join(document["verdict"]),
        "columns": [
            ["devices", 34, 0],
            ["samples/s", 10, 1],
            ["speed-up", 10, 1],
            ["ideal", 8, 1],
            ["predicted", 11, 1],
            ["efficiency", 12, 1],
            ["comm", 6, 1],
            ["zone", 9, 0],
        ],
        "rows": rows,
        "curves": curves,
        "across": "devices",
    }


def _suite(document: Mapping[str, Any], running: Sequence[Mapping[str, Any]]) -> Document:
    words = {True: "beyond the noise", False: "within the noise", None: ""}
    rows = []
    for row in document["rows"]:
        rate, ratio = row["samples_per_second"]["mean"], row["speedup_over_equal"]["mean"]
        rows.append(
            [
                row["workload"],
                row["policy"],
                UNKNOWN if rate is None else f"{rate:,.0f}",
                UNKNOWN if ratio is None else f"{ratio:.2f}x",
                _part(row["balance_efficiency"]["mean"]),
                _part(row["utilization"]["mean"]),
                _part(row["imbalance"]["mean"]),
                words[row["is_beyond_noise"]],
            ]
        )
    known = [row for row in document["rows"] if row["speedup_over_equal"]["mean"] is not None]
    best = max(known, key=lambda row: float(row["speedup_over_equal"]["mean"]), default=None)
    fewest = sum(row["repeats"] for row in document["rows"])
    return {
        "over": fewest,
        "total": len(document["rows"]) * document["repeats"],
        "best": f"{best['policy']} on {best['workload']}, {best['speedup_over_equal']['mean']:.2f}x over equal" if best else "",
        "columns": [
            ["workload", 18, 0],
            ["policy", 14, 0],
            ["samples/s", 10, 1],
            ["over equal", 12, 1],
            ["efficiency", 12, 1],
            ["utilization", 13, 1],
            ["imbalance", 11, 1],
            ["difference", 17, 0],
        ],
        "rows": rows,
        "across": "",
    }


def _fit(document: Mapping[str, Any], running: Sequence[Mapping[str, Any]]) -> Document:
    rows = [
        [
            row["place"],
            f"{row['multiplier']}x",
            f"{row['data_bytes'] / 1e6:,.0f}",
            row["data"],
            row["outcome"],
            UNKNOWN if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e6:,.0f}",
            _seconds(row["seconds"]),
        ]
        for row in document["rows"]
    ]
    curves = [
        {
            "name": f"peak MB, {one['place']}",
            "points": [
                [row["data_bytes"] / 1e6, row["peak_bytes"] / 1e6]
                for row in document["rows"]
                if row["place"] == one["place"] and row["peak_bytes"] is not None
            ],
        }
        for one in document["largest"]
    ]
    return {
        "over": sum(len(row["outcomes"]) for row in document["rows"] if row["outcome"] != "missing"),
        "total": len(document["rows"]) * document["repeats"],
        "best": (document["verdict"] or [""])[
            len(document["largest"]) if len(document["verdict"]) > len(document["largest"]) else 0
        ],
        "columns": [
            ["place", 16, 0],
            ["multiple", 9, 1],
            ["data MB", 9, 1],
            ["held", 11, 0],
            ["outcome", 10, 0],
            ["peak MB", 9, 1],
            ["seconds", 9, 1],
        ],
        "rows": rows,
        "curves": [curve for curve in curves if curve["points"]],
        "across": "MB of data",
    }


_BOARDS: Mapping[str, Callable[[Mapping[str, Any], Sequence[Mapping[str, Any]]], Document]] = {
    "search": _search,
    "scale": _scale,
    "suite": _suite,
    "fit": _fit,
}


def _params(trial: Mapping[str, Any]) -> str:
    words = [f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in trial["params"].items()]
    return ", ".join(words + ([f"{trial['epochs']} epochs"] if trial.get("rung") is not None and trial.get("epochs") else []))


def _number(value: float) -> str:
    return f"{value:.6g}"


def _seconds(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.1f}"


def _part(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.0%}"
