"""The words of Slurm: batch scripts, what its commands print, and what its refusals mean. Pure, and known on both sides."""
