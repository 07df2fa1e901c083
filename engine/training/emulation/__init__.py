"""Devices and networks that are not there, paced so that a step takes as long as theirs would."""
