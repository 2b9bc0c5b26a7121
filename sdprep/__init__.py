"""sdprep prepares images for Stable Diffusion fine-tuning: captions, tags and one metadata JSON."""

__version__ = "0.1.0"
