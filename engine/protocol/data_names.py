"""Names by which a script asks for built-in data: what the centre prepares, and what a node looks for below ``PACELINE_DATA``."""

from __future__ import annotations

DATA_VARIABLE = "PACELINE_DATA"
"""Environment variable of a rank: a directory with a directory of prepared arrays, or of a person's files, for each name."""
SHORT_NAMES = {"digits": "digits-cnn", "sp500": "sp500-mlp", "agnews": "agnews-small"}
"""The workload whose data a short name means; any other name is that of a workload."""
