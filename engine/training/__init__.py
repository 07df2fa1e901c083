"""The program under torchrun."""
