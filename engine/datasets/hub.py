"""Reads a data set of the Hugging Face hub with the package ``datasets``; offline it fails at once and says how to go on.

Without a network that package tries for 23 seconds, so the hub is asked for a connection first. Offline its cache is still read.
"""

from __future__ import annotations

import contextlib
import os
import socket
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import DataRefused
from .catalog import DataSource
from .csvfile import Check
from .packages import needed
from .rows import PlacedRow
from .source import Request

HUB_TIMEOUT_S = 4.0
"""Seconds for the hub, or the proxy before it, to accept a connection."""
_DEFAULT_ENDPOINT = "https://huggingface.co"


def hub_parts(source: DataSource, request: Request, is_streamed: bool = False) -> dict[str, Any]:
    """The parts of a data set on the hub, by name; each is iterated with ``hub_rows``. Raises DataRefused with the way to go on.

    ``is_streamed``: rows come over the network as they are used; else the files are downloaded into the package's cache first.
    """
    reason = offline_reason(os.environ)
    try:
        datasets = needed("datasets", f"data sets of the hub, such as {source.hub},")
    except DataRefused as missing:
        raise DataRefused(
            f"{missing.reason}{f', and {reason}' if reason else ''}", hint=_hint(source, request, missing.hint)
        ) from None
    constants: Any = needed("huggingface_hub.constants", "the hub")
    # Both read their variable when they are imported, which may have been long before: offline only their caches are looked at.
    datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = reason is not None
    with contextlib.suppress(AttributeError):
        datasets.disable_progress_bars()
    try:
        parts = datasets.load_dataset(source.hub, source.configuration or None, streaming=is_streamed and reason is None)
        return {str(name): _undecoded(datasets, part) for name, part in parts.items()}
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:  # OSError: what requests and the hub raise
        why = reason or " ".join(str(error).split())[:200]
        raise DataRefused(
            f"{source.name} is not here: looked for {source.hub} on the Hugging Face hub and in its cache ({why}), and for files in"
            f" {request.data_dir / 'sources' / source.name}",
            hint=_hint(source, request),
        ) from None


def hub_rows(source: DataSource, part: str, rows: Any, check: Check) -> Iterator[PlacedRow]:
    """Yield the rows of one part with their place. Raises DataRefused where the connection is lost."""
    number = 0
    try:
        for number, row in enumerate(rows, 1):
            if number % 256 == 0:
                check()
            yield f"{source.hub} {part}: row {number}", row
    except OSError as error:
        why = " ".join(str(error).split())[:160]
        raise DataRefused(
            f"{source.hub}: the connection was lost after row {number} of {part}: {why}", hint="start again"
        ) from None


def offline_reason(environment: Mapping[str, str]) -> str | None:
    """Why the hub is not asked: a variable says so, or it does not accept a connection. None: it can be asked."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        if environment.get(name, "").strip().lower() in ("1", "true", "yes", "on"):
            return f"{name} is set"
    host, port = hub_address(environment)
    try:
        with socket.create_connection((host, port), timeout=HUB_TIMEOUT_S):
            return None
    except OSError as error:
        return f"no connection to {host}:{port}: {error.strerror or error}"


def hub_address(environment: Mapping[str, str]) -> tuple[str, int]:
    """Host and port that a request to the hub goes to first: the proxy, where one is set for it."""
    endpoint = urllib.parse.urlsplit(environment.get("HF_ENDPOINT", "").strip() or _DEFAULT_ENDPOINT)
    host = endpoint.hostname or "huggingface.co"
    excluded = [part.strip().lstrip(".") for part in (environment.get("no_proxy") or environment.get("NO_PROXY") or "").split(",")]
    proxy = next(
        (environment[name] for name in (f"{endpoint.scheme}_proxy", f"{endpoint.scheme.upper()}_PROXY") if environment.get(name)),
        "",
    )
    if proxy and not any(part == "*" or (part and (host == part or host.endswith(f".{part}"))) for part in excluded):
        at = urllib.parse.urlsplit(proxy if "//" in proxy else f"//{proxy}")
        return at.hostname or host, at.port or (443 if at.scheme == "https" else 80)
    return host, endpoint.port or (443 if endpoint.scheme == "https" else 80)


def _undecoded(datasets: Any, part: Any) -> Any:
    """The part with the bytes of images instead of images: they are decoded by our code, which names the row."""
    for name, feature in (part.features or {}).items():
        if isinstance(feature, datasets.Image):
            part = part.cast_column(name, datasets.Image(decode=False))
    return part


def _hint(source: DataSource, request: Request, install: str | None = None) -> str:
    ways = [install] if install else [f"with a network: paceline data {source.name}"]
    ways.append(f"or name local files ({source.formats}), or put them into {request.data_dir / 'sources' / source.name}")
    if source.stand_in:
        ways.append(f"to try without them: {source.stand_in}, which is generated")
    return "; ".join(ways)
