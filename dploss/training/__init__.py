"""From settings and rows to a trained encoder."""
