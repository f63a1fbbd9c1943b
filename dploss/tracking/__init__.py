"""BestCheckpointTracker, for any training loop, and its parts."""
