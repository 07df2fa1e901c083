"""Reports: every figure stands in the result it names, odd names break no format, and a half-written report never shows."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from paceline.engine.errors import StorageFailed, UsageError
from paceline.engine.experiments.fit import CLUSTER, fit_document, rows_of_fit
from paceline.engine.experiments.scale import scale_document
from paceline.engine.experiments.search import search_document
from paceline.engine.experiments.suite import suite_document
from paceline.engine.jobs.experiments.search import SearchRequest, plan_of, rows_of_run
from paceline.engine.plan import Plan
from paceline.engine.publishing.collect import report_of
from paceline.engine.publishing.content import Report
from paceline.engine.publishing.csv_tables import table_csv
from paceline.engine.publishing.formats import FORMATS, LAYOUTS
from paceline.engine.publishing.html import html
from paceline.engine.publishing.latex import document as latex_document
from paceline.engine.publishing.latex import table as latex_table
from paceline.engine.publishing.like import LIKES, as_like
from paceline.engine.publishing.markdown import markdown
from paceline.engine.publishing.result_file import ResultFile
from paceline.engine.publishing.write import contents, write_report
from paceline.engine.reports.bench import bench_document, train_document

from tests.engine.experiments.test_fit import events_of
from tests.engine.experiments.test_fit import plan as fit_plan
from tests.engine.experiments.test_scale import facts, plan
from tests.engine.experiments.test_search import ended
from tests.engine.experiments.test_suite import PLAN
from tests.engine.experiments.test_suite import facts as bench_facts
from tests.engine.reports.test_reports import EQUAL_AND_HYBRID, LINES, SLOW, case_lines, made_plan

FIT = fit_plan(repeats=2)
SEARCH = plan_of(SearchRequest(grid=("lr=0.1,0.01,0.001",)))
TRIALS = [*ended(0, 0, 110.0, 10.0, 0.5), *ended(1, 1, 120.0, 20.0, 0.25), *ended(0, 2, 120.0, 10.0, None, "failed")]
ODD = "_ % & # $ { } \\ ~ ^ < > | \" ' é 名"
"""A name with everything that a format could take for its own."""


def sources() -> list[ResultFile]:
    train: Plan = made_plan("hybrid", is_bench=False)
    rows = dict(enumerate([facts(280.0), facts(360.0), facts(200.0, 0.09), facts(320.0), facts(380.0), facts(220.0, 0.09)]))
    documents: list[Any] = [
        bench_document(EQUAL_AND_HYBRID, LINES) | {"state": "done", "reason": None},
        train_document(train, case_lines(train, "hybrid", SLOW, 1.6), "done", "logs/runs/x") | {"reason": None},
        train_document(train, case_lines(train, "hybrid", SLOW, 0.8), "done", "logs/runs/y") | {"reason": None},
        scale_document("mine", plan(), rows),
        suite_document("all", PLAN, {place: bench_facts(100.0 + place, 200.0 - place) for place in range(4)}),
        search_document("grid", SEARCH, rows_of_run(TRIALS, {0: "fast:0", 1: "slow:0"}, SEARCH)),
        fit_document("fit", FIT, rows_of_fit(events_of(FIT, {"a": 50, "b": 1, CLUSTER: 200}), FIT["trials"], 2)),
    ]
    return [ResultFile(f"one{place}", f"logs/runs/one{place}/result.json", document) for place, document in enumerate(documents)]


def figures(report: Report) -> Iterator[tuple[Any, str]]:
    """Every figure of a report, and where it says it stands."""
    for table in report.tables:
        yield from ((cell.value, cell.source) for row in table.rows for cell in row if cell.source)
    for chart in report.charts:
        for series in chart.series:
            assert len(series.sources) == len(series.ys), chart.name
            yield from zip(series.ys, series.sources, strict=True)


def resolve(known: dict[str, Any], source: str) -> Any:
    """The value of a field such as ``logs/x/result.json#cases[0].epochs[1].loss``."""
    path, _, field = source.partition("#")
    value = known[path]
    for word in re.findall(r"[^.\[\]]+", field):
        value = value[int(word)] if word.isdigit() else value[word]
    return value


def test_every_figure_of_tables_and_charts_stands_in_the_result_that_it_names() -> None:
    found = sources()
    known = {one.path: one.document for one in found}
    counted = 0
    for value, source in figures(report_of(found)):
        values = [resolve(known, part) for part in source.split(" + ")]
        counted += 1
        if values == [None]:
            assert value is None
        if len(values) > 1 or not isinstance(values[0], int | float):
            continue  # computed of several fields: a mean of these epochs, of the ranks
        if value is not None:
            assert any(value == pytest.approx(values[0] * factor) for factor in (1, 100, 1000, 2**-20, 1e-6)), source
    assert counted > 150


def test_means_over_epochs_and_ranks_are_those_of_the_fields_they_name() -> None:
    found = sources()[1:3]
    table = next(table for table in report_of(found).tables if table.name == "runs")
    for one, row in zip(found, table.rows, strict=True):
        seconds = [epoch["seconds"] for epoch in one.document["epochs"][1:]]
        assert row[3].value == pytest.approx(sum(seconds) / len(seconds))
    assert table.rows[1][4].value == pytest.approx(float(table.rows[0][3].value or 0) / float(table.rows[1][3].value or 1))


def odd_report() -> Report:
    found = sources()
    for one in found:
        for device in one.document.get("devices") or ():
            device["name"] = device["node"] = ODD
        one.document["workload"] = ODD
        one.document["warnings"] = [ODD]
    return report_of([replace(one, name=ODD) for one in found])


class Balance(HTMLParser):
    """Checks that tags close in order; collects the text of cells."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


def test_html_is_well_formed_and_says_what_the_tables_say_whatever_the_names() -> None:
    report = odd_report()
    parser = Balance()
    parser.feed(html(report, {}))
    parser.close()
    assert parser.open == []
    said = [(*table.header, *(cell.text for row in table.rows for cell in row)) for table in report.tables]
    assert parser.cells == [text for texts in said for text in texts]


def test_latex_has_no_character_that_it_would_read_as_a_command() -> None:
    report = odd_report()
    for one in report.tables:
        body = latex_table(one).split(r"\midrule")[1].split(r"\bottomrule")[0]
        words = re.sub(r"\\(?:text\w+\{\}|[%&#$_{}]|ldots\{\}|\\)|\$\\(?:pm|mu|times)\$|\$-\$|\$\^\{\\circ\}\$", "", body)
        assert not re.search(r"[#$%_{}~^\\<>|\"]", words), words
        assert all(line.count(" & ") == len(one.header) - 1 for line in body.strip().splitlines())
    text = latex_document(report, {})
    assert text.count(r"\begin{") == text.count(r"\end{")


def test_markdown_tables_keep_their_columns_whatever_the_names() -> None:
    report = odd_report()
    lines = [line for line in markdown(report, {}).splitlines() if line.startswith("|")]
    rows = [row for table in report.tables for row in (table.header, table.header, *table.rows)]
    for line, row in zip(lines, rows, strict=True):
        assert len(re.findall(r"(?<!\\)\|", line)) == len(row) + 1


def test_csv_gives_every_figure_unrounded() -> None:
    for table in report_of(sources()).tables:
        rows = list(csv.reader(io.StringIO(table_csv(table))))
        for row, cells in zip(rows[1:], table.rows, strict=True):
            for text, cell in zip(row[:-1], cells, strict=True):
                if isinstance(cell.value, float):
                    assert float(text) == cell.value


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_gives_the_names_of_the_project_it_follows(layout: str) -> None:
    assert set(LIKES) == set(LAYOUTS)
    chosen = {"trainer": sources()[:1], "two-devices": sources()[1:3], "negative-scaling": sources()[3:4], "cloud": sources()[5:6]}[
        layout
    ]
    report = as_like(report_of(chosen), chosen, layout)
    names = {theirs for _, theirs, _ in (*LIKES[layout].tables, *LIKES[layout].charts)}
    made = [*(table.name for table in report.tables), *(chart.name for chart in report.charts)]
    assert made
    assert set(made) <= names
    assert len(made) == len(set(made))


def test_negative_scaling_is_named_in_the_summary() -> None:
    summary = " ".join(report_of(sources()[3:4]).summary)
    assert "Negative scaling: 3 devices are slower than the row before." in summary
    assert "communication takes 50% of a step of 3 devices; R = 1.00" in summary


def test_a_gain_within_the_noise_is_not_called_one() -> None:
    one = sources()[0]
    best = max(one.document["cases"], key=lambda case: float(case["samples_per_second"]))
    best["half_widths"]["speedup_over_equal"] = 5.0
    assert "no gain is shown" in " ".join(report_of([one]).summary)


def test_a_report_that_cannot_be_written_leaves_the_last_one_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = sources()
    formats = ("md", "csv", "latex")
    written = write_report(report_of(found[:1]), tmp_path, formats)
    before = {path: path.read_bytes() for path in written}
    count = len(contents(report_of(found), formats))
    real = Path.write_bytes
    for failing in range(count):
        calls = iter(range(count))

        def write(path: Path, data: bytes, calls: Iterator[int] = calls, failing: int = failing) -> int:
            if next(calls) == failing:
                raise OSError(28, "No space left on device")
            return real(path, data)

        monkeypatch.setattr(Path, "write_bytes", write)
        with pytest.raises(StorageFailed, match="No space left"):
            write_report(report_of(found), tmp_path, formats)
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="docx"):
        write_report(report_of(sources()), tmp_path, ("md", "docx"))
    assert set(FORMATS) >= {"md", "html", "csv", "latex", "png", "svg", "pdf"}


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_pictures_are_drawn_alike_every_time_whatever_the_names(ending: str) -> None:
    pytest.importorskip("matplotlib")
    from paceline.engine.publishing.charts import draw

    for chart in odd_report().charts:
        assert draw(chart, ending) == draw(chart, ending)


def test_names_of_files_are_plain_whatever_a_result_is_called_and_none_is_lost(tmp_path: Path) -> None:
    found = sources()
    for name in (ODD, "../../etc/x", ".." * 300, "/abs", ""):
        made = contents(report_of([replace(one, name=name) for one in found]), ["latex", "csv"])
        assert all(re.fullmatch(r"(tables|data)/[A-Za-z0-9][A-Za-z0-9._-]*|report\.tex", file) for file in made)
        report = report_of([replace(one, name=name) for one in found])
        assert len(made) == 1 + 2 * len(report.tables) + len(report.charts)


@pytest.mark.slow
def test_a_latex_report_with_odd_names_compiles(tmp_path: Path) -> None:
    import shutil
    import subprocess

    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex here")
    odd = ODD.replace("名", "")  # pdflatex has no such letter
    ones = [replace(one, name=odd, document={**one.document, "workload": odd}) for one in sources()]
    write_report(report_of(ones), tmp_path, ["latex"])
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report.tex"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stdout.decode(errors="replace")[-3000:]
    assert (tmp_path / "report.pdf").stat().st_size > 10_000
