"""Start of the program: ``paceline`` and ``python -m paceline.tui``."""

import os
import sys


def main() -> None:
    """Hand over to the command line; files made by us are for this user only."""
    os.umask(0o077)
    from .cli import main as run

    sys.exit(run())


if __name__ == "__main__":
    main()
