"""Random-access sources, host transforms and the grain pipeline."""
