"""Captions and tags of shards: the runs, and what is made of their results."""
