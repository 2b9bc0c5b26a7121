"""Bundled sample images, the cartoon drawings behind them, and two tiny models trained on such drawings."""
