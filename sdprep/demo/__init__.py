"""Bundled sample pictures, the cartoon drawings behind them, and two tiny models trained on such drawings."""
