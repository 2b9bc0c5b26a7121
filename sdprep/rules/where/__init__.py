"""The language of `--where`, which chooses images by their tags, captions, names, sizes, scores and sources."""
