"""Measurements, side by side; what they gave is in RESULTS.md."""
