"""Where Paceline's own files lie: the checkout that it runs from, and the state directory of a person."""

from __future__ import annotations

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
"""Root of the checkout; of an installed package a directory without a nodes.toml."""


def state_directory() -> Path:
    """Where Paceline keeps what is no person's file, by the XDG Base Directory Specification."""
    from platformdirs.unix import Unix

    return Unix("paceline").user_state_path
