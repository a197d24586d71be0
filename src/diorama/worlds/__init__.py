"""Simulated worlds with everything known: scenes, physics, pictures, words. Knows nothing of files, models or training."""
