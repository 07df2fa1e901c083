"""Finds which modules the interpreter of this node lacks, before a script that imports them is launched."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys

from ...errors import WorkFailed
from ...protocol.messages import Body
from ..runs.tail import Send
from ..system.state_dir import StateDir
from ..system.timeout import with_timeout

MAX_MODULES = 1000
SEARCH_TIMEOUT_S = 20.0
"""Seconds for an interpreter to start and to look, also on a cold network file system."""
SEARCH = """
import importlib.util, json, sys
def is_missing(name):
    try:
        return importlib.util.find_spec(name) is None
    except (ImportError, ValueError):
        return True
print(json.dumps([name for name in json.load(sys.stdin) if is_missing(name)]))
"""
"""Looks for modules without importing them. A process of its own: it sees the environment that a run would get."""


async def find_modules(state_dir: StateDir, body: Body, send: Send) -> Body:
    """Return {"missing": names}: which of the top-level ``modules`` this interpreter does not find, with ``env`` set."""
    names = [name for name in body["modules"] if isinstance(name, str) and name.isidentifier()][:MAX_MODULES]
    env = {**os.environ, **{name: value for name, value in (body.get("env") or {}).items() if isinstance(value, str)}}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        SEARCH,
        env=env,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, error = await with_timeout(SEARCH_TIMEOUT_S, process.communicate(json.dumps(names).encode()))
    except asyncio.TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        raise WorkFailed(f"{sys.executable} did not start within {SEARCH_TIMEOUT_S:.0f} s") from None
    if process.returncode != 0:
        raise WorkFailed(f"{sys.executable} failed: {error.decode('utf-8', 'replace').strip()[-200:]}")
    return {"missing": json.loads(output)}
