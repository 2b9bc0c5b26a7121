"""One tiny computation per framework, each run in a process of its own. It imports what doctor imports."""
