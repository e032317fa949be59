"""Data sets: samples to the tensors that the task models take."""
