"""The run that captioning and tagging share: plan, look up stored results, predict, write. Imports as tasks."""
