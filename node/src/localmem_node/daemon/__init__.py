"""The daemon: one process per user that owns the store and answers everybody else."""
