"""The fleet as lines: rows, order, heat map, history cards."""
