"""Official scores as pure functions of predictions and truth."""
