"""Runs on a cluster of Slurm: submitted once as one job, waited for in its queue, then followed as any other run."""
