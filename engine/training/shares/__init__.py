"""Unequal shares of one global batch: sampler, gradient sum, per-step statistics, compression, local SGD."""
