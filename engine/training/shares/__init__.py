"""Unequal shares of one global batch: sampling, the gradient sum and what ranks exchange in it."""
