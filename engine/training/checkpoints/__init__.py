"""Checkpoints of a training: written beside it, and a training that goes on from one."""
