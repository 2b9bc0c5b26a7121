"""Pure functions from scores and captions to text, without files or models. It imports errors and types."""
