"""Boards of experiments of every kind, as a screen gets them."""

from __future__ import annotations

from typing import Any

SPEEDS = {"demo1:0": 12.7, "demo2:0": 9.1, "demo3:0": 3.0, "demo4:0": 3.0}


def _search() -> dict[str, Any]:
    free = dict.fromkeys(SPEEDS, 0.0)
    spans: list[dict[str, Any]] = []
    rows: list[list[str]] = []
    points: list[list[float]] = []
    for trial in range(14):
        device = min(SPEEDS, key=lambda name: free[name] + 150 / SPEEDS[name])
        start = free[device]
        free[device] += 150 / SPEEDS[device]
        is_over = trial < 12
        value = 0.02 / (1 + trial % 5)
        state = "done" if trial != 3 else "failed"
        end = free[device] if is_over else None
        spans.append({"lane": device, "start": start, "end": end, "label": str(trial), "state": state if is_over else "running"})
        text = "failed" if trial == 3 else f"{value:.6g}" if is_over else "runs"
        rows.append([str(trial), f"lr={10.0 ** -(trial % 3 + 1):g}, hidden_dim={64 << trial % 3}, layers={2 + trial % 2}", text])
        rows[-1] += [f"{150 / SPEEDS[device]:.1f}" if is_over else "—", device]
        points.append([trial + 1.0, min([value, *(point[1] for point in points)])])
    return {
        "kind": "search",
        "name": "search-20261130",
        "state": "incomplete",
        "reason": "6 of 18 trials have not ended",
        "is_emulated": True,
        "note": "",
        "over": 12,
        "total": 18,
        "best": "trial 4, mse 0.004: lr=0.01, hidden_dim=128, layers=2",
        "columns": [["trial", 6, 1], ["parameters", 44, 0], ["mse", 12, 1], ["seconds", 9, 1], ["device", 14, 0]],
        "rows": rows,
        "spans": spans,
        "curves": [{"name": "best mse so far", "points": points}],
        "across": "trials that have ended",
    }


def _scale() -> dict[str, Any]:
    measured, ideal = (1.0, 1.6, 1.5, 1.3), (1.0, 1.72, 1.95, 2.19)
    names = list(SPEEDS)
    zones = ("", "gain", "negative", "negative")
    rows = []
    for n in range(4):
        figures = [f"{value:.2f}x" for value in (measured[n], ideal[n], measured[n] * 1.03)]
        ends = [f"{measured[n] / ideal[n]:.0%}", f"{n * 14}%", zones[n]]
        rows.append([",".join(names[: n + 1]), f"{900 * measured[n]:,.0f}", *figures, *ends])
    curves = [("measured", measured), ("ideal", ideal), ("predicted", tuple(one * 1.03 for one in measured))]
    return {
        "kind": "scale",
        "name": "over-wifi",
        "state": "done",
        "reason": None,
        "is_emulated": True,
        "note": "",
        "over": 12,
        "total": 12,
        "best": "2 devices (demo1:0, demo2:0) are the fastest: 1.60x of an ideal 1.72x, 93%; with 4 it is 1.30x: communication 42%",
        "columns": [
            *(["devices", 34, 0], ["samples/s", 10, 1], ["speed-up", 10, 1], ["ideal", 8, 1], ["predicted", 11, 1]),
            *(["efficiency", 12, 1], ["comm", 6, 1], ["zone", 9, 0]),
        ],
        "rows": rows,
        "spans": [],
        "curves": [{"name": name, "points": [[n + 1.0, y] for n, y in enumerate(values)]} for name, values in curves],
        "across": "devices",
    }


BOARDS: dict[str, dict[str, Any]] = {"search": _search(), "scale": _scale()}

for _board in BOARDS.values():
    _board["columns"] = [{"name": name, "width": width, "is_number": bool(kind)} for name, width, kind in _board["columns"]]
