"""Predicts whether distributed training pays, on which devices, and what would improve it. Pure: a profile in, advice out."""
