"""The Python API: one module per command, no click and no printing. It imports everything but cli."""
