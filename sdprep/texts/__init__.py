"""Sidecar and metadata files: names, formats, encodings. It imports rules and what is below them."""
