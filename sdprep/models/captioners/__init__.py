"""Captioners, and what their folders may contain. It imports models and what is below them."""
