"""Trials of an experiment on a node: shared out among the devices, or bound to a place, each in a contained child."""
