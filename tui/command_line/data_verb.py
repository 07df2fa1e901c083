"""The verb ``data``: its arguments, how it asks the engine, and its text. Prepares a data set, looks at one, or lists all."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paceline.engine.reports.document_type import Document
from paceline.engine.workloads.datasets import DATASETS

from .arguments import Argument, positive, seed

if TYPE_CHECKING:
    from paceline.engine.control import Control

OPTION_ARGUMENTS: tuple[Argument, ...] = (
    Argument("--train", "at most so many samples to train on", "N", seed),
    Argument("--validation", "at most so many samples to judge by", "N", seed),
    Argument("--length", "tokens of a text", "N", positive),
    Argument("--vocabulary", "tokens of the tokenizer", "N", positive),
    Argument("--tokens", "of a text file: characters or bpe", "KIND", choices=("characters", "bpe")),
    Argument("--source", "language that is translated, such as de", "LANG"),
    Argument("--target", "language it is translated to, such as en", "LANG"),
    Argument("--ticker", "of prices (default: ^GSPC)", "NAME"),
    Argument("--years", "of prices (default: 5)", "N", positive),
    Argument("--multiply", "times the training part, by noisy copies", "N", positive),
    Argument("--noise", "of the copies, in units of the scaled prices (default: 0.01)", "X", float),
    Argument("--shard-mb", "MiB of a shard of the training part; 0: one file", "N", seed),
    Argument("--days", "of generated prices", "N", positive),
    Argument("--classes", "of generated images", "N", positive),
    Argument("--shape", "of generated images, such as 3x32x32", "SHAPE"),
    Argument("--seed", "of generated data and of noise", "N", seed),
)
"""The options of all data sets; each set takes some of them."""

DATA_ARGUMENTS: tuple[Argument, ...] = (
    Argument("name", "a data set, or a directory of prepared data (default: list all)", "NAME", nargs="?", choices=tuple(DATASETS)),
    Argument("files", "local files, folders or archives instead of the hub", "FILE", nargs="*"),
    Argument("--out", "write the prepared data there too: series as NPZ, others as .npy", "DIR", Path),
    Argument("--format", "npz or npy (default: by the kind of data)", "F", choices=("npz", "npy")),
    Argument("--column", "column of a price file with the prices (default: Close)", "NAME"),
    Argument("--date-column", "column of a price file with the dates (default: Date)", "NAME"),
    *OPTION_ARGUMENTS,
)


def data_files(runs: Path, args: argparse.Namespace) -> Document:
    """The document of the verb. ``runs``: the runs directory, beside whose parent lies ``data``."""
    from paceline.engine.datasets.export import data_document
    from paceline.engine.datasets.source import Columns

    given = {argument.key: getattr(args, argument.key) for argument in OPTION_ARGUMENTS}
    return data_document(
        args.name,
        [Path(file) for file in args.files],
        runs.parent.parent / "data",
        {key: value for key, value in given.items() if value is not None},
        columns=Columns(args.column, args.date_column),
        out=args.out,
        form=args.format,
    )


async def data(control: Control, args: argparse.Namespace) -> Document:
    """The same from a screen, in a thread."""
    return await asyncio.to_thread(data_files, control.runs, args)


def data_text(document: Document) -> str:
    """The document as text."""
    if document["datasets"]:
        return "\n".join(_listed(one) for one in document["datasets"])
    size = document["bytes"] / 2**20
    lines = [
        f"{document['name']}: {document['provenance']}",
        f"  {document['rows']:,} rows, sha256 {document['sha256'][:16]}, {size:.1f} MiB in {document['directory']},"
        f" {document['seconds']:.1f} s",
    ]
    lines += [
        f"  {one['name']:<16} {one['dtype']:<5} {' x '.join(f'{size:,}' for size in one['shape'])}" for one in document["arrays"]
    ]
    lines += [f"  warning: {warning}" for warning in document["warnings"]]
    return "\n".join([*lines, *(f"  written: {file}" for file in document["written"])])


def _listed(one: dict[str, Any]) -> str:
    return f"{one['name']:<18}{one['kind']:<13}{one['title']:<60}{one['origin']}"
