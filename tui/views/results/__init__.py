"""A result as lines: table, policies, speed-up chart."""
