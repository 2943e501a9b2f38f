"""Anomaly and out-of-distribution detection in JAX."""

__version__ = "0.1.0"
