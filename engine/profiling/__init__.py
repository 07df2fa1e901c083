"""Measures every device, disk and link on the nodes; ``profiles`` assembles and stores the results at the centre."""
