"""Whether distributing pays, on which devices, and what would help. Pure: a profile in, advice out."""
