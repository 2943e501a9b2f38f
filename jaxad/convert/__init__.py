"""Published checkpoints of other frameworks, read into the parameters of our models."""
