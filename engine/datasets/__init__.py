"""A source becomes .npy files and a manifest, in one call: ``prepare``."""

from .preparation import STEPS, prepare

__all__ = ["STEPS", "prepare"]
