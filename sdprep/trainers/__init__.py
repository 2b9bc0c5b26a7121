"""What each trainer loads from a folder: images, prompts, buckets, caches, and what is lost on the way."""
