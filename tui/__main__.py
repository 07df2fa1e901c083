"""Entry point of ``paceline`` and ``python -m paceline.tui``."""

import os
import sys


def main() -> None:
    """Run the command line; the umask makes every file that it creates private."""
    os.umask(0o077)
    try:
        from .command_line.cli import main as run

        sys.exit(run())
    except KeyboardInterrupt:  # before a verb handles the signal
        sys.exit(130)


if __name__ == "__main__":
    main()
