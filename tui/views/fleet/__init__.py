"""The fleet as lines: rows, order, heat map and history cards."""
