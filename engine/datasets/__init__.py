"""A source becomes .npy files and a manifest, in one call: ``prepare``."""

from .preparation import prepare

__all__ = ["prepare"]
