"""The result of a run as lines: table, policies, speed-up chart."""
