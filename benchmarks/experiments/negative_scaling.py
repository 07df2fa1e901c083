"""Negative scaling: four alike devices over Wi-Fi are slower than one. ``python -m benchmarks experiments/negative_scaling``

An embedded lab of its own trains a small transformer on one, two and four devices over two emulated networks. The reference
reports 0.46x and 0.80x on four alike devices. Goals: it is slower here too, predicted within 10 %, the cause is named, the advisor
avoids it, and one command writes the report of four figures and three tables. ``--keep DIR`` keeps the lab and the report.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from paceline.engine.datasets.text.news import generate_news

from benchmarks.experiments.lab import paceline, run
from benchmarks.table import Figure, write_csv

NODE = """[[node]]
name = "gpu{number}"
kind = "embedded"
devices = [{{ name = "alike", speed = 4.0, memory = "4GiB" }}]
"""
ROWS, BATCH, EPOCHS = 480, 24, 3
SETS = "gpu1;gpu[1-2];gpu[1-4]"
JOB = ("--workload", "agnews-small", "--global-batch-size", str(BATCH))


def measure(folder: Path, repeats: int) -> list[Figure]:
    """Run the experiment, its report and the advice in a lab of alike devices."""
    nodes = "".join(NODE.format(number=number) for number in range(1, 5))
    (folder / "nodes.toml").write_text(nodes + '[link]\npreset = "wifi"\n')
    _write_news(folder / "news.csv")
    words = (
        "scale",
        *JOB,
        "--csv",
        "news.csv",
        "--sets",
        SETS,
        "--links",
        "wifi,lan",
        "--epochs",
        str(EPOCHS),
        "--repeats",
        str(repeats),
    )
    document = paceline(folder, *words, "--name", "negative")
    report = paceline(folder, "report", "negative", "--like", "negative-scaling")
    advice = paceline(folder, "advise", *JOB)
    return [*_scaling(document), _report(report), _advice(advice)]


def _scaling(document: dict[str, Any]) -> list[Figure]:
    rows = document["rows"]
    four = {row["link"]: row for row in rows if len(row["devices"]) == 4}
    wifi, lan = four["wifi"], four["lan"]
    errors = [
        (abs(row["predicted_speedup"] / row["speedup"] - 1.0), f"{len(row['devices'])} over {row['link']}")
        for row in rows
        if len(row["devices"]) > 1 and row["speedup"] and row["predicted_speedup"]
    ]
    worst = max(errors, default=(9.9, "none"))
    columns = ("link", "speedup", "predicted_speedup", "communication_share", "ratio", "epoch_seconds", "metric", "zone")
    raw = [[len(row["devices"]), *(row[key] for key in columns)] for row in rows]
    write_csv("negative_scaling", ["devices", *columns], raw)
    cause = next((sentence for sentence in document["verdict"] if "wifi" in sentence), "")
    told = f"{wifi['speedup']:.2f}x over Wi-Fi, {lan['speedup']:.2f}x over a LAN (reported: 0.46x and 0.80x)"
    return [
        Figure("four alike devices against one", "below 1 over Wi-Fi", told, wifi["speedup"] < 1.0),
        Figure("the prediction beside each row", "within 10 %", f"worst {worst[0]:.1%}, {worst[1]}", worst[0] <= 0.10),
        Figure("the cause", "communication is named", cause, "communication takes" in cause),
    ]


def _report(report: dict[str, Any]) -> Figure:
    pictures = [Path(file).name for file in report["files"] if file.endswith(".png")]
    tables = [Path(file).name for file in report["files"] if Path(file).parent.name == "tables"]
    told = f"{', '.join(sorted(pictures))}; {', '.join(sorted(tables))}"
    return Figure("report --like negative-scaling", "4 figures, 3 tables", told, (len(pictures), len(tables)) == (4, 3))


def _advice(advice: dict[str, Any]) -> Figure:
    best = advice["recommended"]["devices"] if isinstance(advice.get("recommended"), dict) else advice.get("recommended") or []
    told = f"{len(best)} of 4 devices recommended"
    return Figure("the advised plan", "one device", told, len(best) == 1)


def _write_news(path: Path) -> None:
    news = generate_news(rows=ROWS)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        for text, label in zip(news.texts, news.labels, strict=True):
            writer.writerow([int(label) + 1, text, ""])


if __name__ == "__main__":
    run(measure, __doc__)
