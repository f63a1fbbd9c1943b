"""What lies in checkpoints/<uuid>/, and how it is found, read and summarised."""
