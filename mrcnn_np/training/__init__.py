"""Training: the loop, the optimiser, what stays frozen, where weights come from, the folder of a run."""
