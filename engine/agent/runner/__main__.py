"""Start-up of a runner: ``python -m paceline.engine.agent.runner ROOT NODE``.

It reads {"spec", "plan", "certificates", "env", "holder"} from standard input, or {"returns", ...} (see ``returning``), detaches,
answers one line, {"port", "pid"}, {"taken"} or {"error"}, and supervises the run alone from then on.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from .daemon import daemonize
from .returning import supervise_return
from .supervisor import adopt_orphans, supervise


def main() -> None:
    """Run one run of this node to its end."""
    if len(sys.argv) != 3:
        sys.exit("usage: python -m paceline.engine.agent.runner ROOT NODE")
    os.umask(0o077)
    root, node = Path(sys.argv[1]), sys.argv[2]
    request = json.loads(sys.stdin.buffer.read())
    daemonize()
    adopt_orphans()
    asyncio.run((supervise_return if request.get("returns") else supervise)(root, node, request))


if __name__ == "__main__":
    main()
