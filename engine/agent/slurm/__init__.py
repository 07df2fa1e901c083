"""Slurm on a node: at the login node it submits jobs once and knows their state; in a task of a job it is the runner of a slot."""
