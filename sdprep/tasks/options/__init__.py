"""What the options of a run may be set to, and by whom."""
