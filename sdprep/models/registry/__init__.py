"""From `--model` to a checked `ModelSpec`. It imports models and what is below them."""
