"""Start of the program: ``paceline`` and ``python -m paceline.tui``."""

import os
import sys


def main() -> None:
    """Hand over to the command line; files made by us are for this user only."""
    os.umask(0o077)
    try:
        from .command_line.cli import main as run

        sys.exit(run())
    except KeyboardInterrupt:  # before there is anything to interrupt
        sys.exit(130)


if __name__ == "__main__":
    main()
