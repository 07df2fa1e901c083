"""From a plan to processes and a run directory, and back home."""
