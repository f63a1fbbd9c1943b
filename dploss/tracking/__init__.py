"""BestCheckpointTracker and what it is made of; usable in any training loop."""
