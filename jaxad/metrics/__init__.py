"""Metrics on host arrays: exact ones, and ones of counted scores with bounds on their error."""
