"""Grids on a SLURM cluster: job arrays that are submitted at once, requeued where they are cut off, and watched."""
