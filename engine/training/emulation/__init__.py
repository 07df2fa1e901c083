"""Emulated devices and networks: a real training step, paced to take as long as theirs would."""
