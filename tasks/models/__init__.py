"""The task models: a backbone and a head each, with loss and prediction."""
