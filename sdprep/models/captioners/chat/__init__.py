"""Chat models that see images, run by transformers. It imports models and what is below them."""
