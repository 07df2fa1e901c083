"""How fast each device, disk and link is: measured on the nodes, fitted and kept at the centre."""
