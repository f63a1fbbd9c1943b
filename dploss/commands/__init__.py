"""What the scripts of the root and `dploss train | test | encode | plot | visualize` do. Imports nothing itself."""
