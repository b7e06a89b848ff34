"""Measurements. Each is `python -m benchmarks.NAME` and ends with one JSON object: metrics beside their targets."""
