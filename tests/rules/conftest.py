"""Property tests judge what the rules do, not how fast a busy machine does it."""

from hypothesis import settings

settings.register_profile("rules", deadline=None, max_examples=60)
settings.load_profile("rules")
