"""The names of formats and of layouts, for the command line: it starts without what writes them."""

from __future__ import annotations

PICTURES = ("png", "svg", "pdf")
FORMATS = ("md", "html", "csv", "latex", *PICTURES)
DEFAULT_FORMATS = ("md", "html", "csv", "latex", "png")
LAYOUTS = ("trainer", "two-devices", "negative-scaling", "cloud")
"""Projects whose tables and figures ``report --like`` gives."""
EXPORTS = ("tensorboard", "mlflow", "wandb")
"""Tools whose files ``report --to`` writes."""
