"""From a config to a finished run: loop, SPMD, checkpoints, logging."""
