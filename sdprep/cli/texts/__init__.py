"""Commands on captions and tags, and what they print: plans of changes, the changes themselves, statistics."""
