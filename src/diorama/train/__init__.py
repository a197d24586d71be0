"""Training: one loop, and a task for every model of the house."""
