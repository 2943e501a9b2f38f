"""Metrics on host arrays: exact ones on NumPy and scikit-learn."""
