"""What XLA and the host make of a config: time, FLOP/s, bytes, memory. Run as `python -m
benchmarks.<name>`.
"""
