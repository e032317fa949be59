"""Hostile and damaged files, kills and faults of the machine: what they may do and what they may not."""
