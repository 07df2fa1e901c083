"""The program under torchrun: one process a rank. Imports nothing, so that the centre reads the table of workloads without
torch."""
