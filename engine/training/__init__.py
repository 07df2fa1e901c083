"""The training program under torchrun: one process per rank. Imports nothing, so that importing it does not load torch."""
