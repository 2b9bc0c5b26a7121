"""Datasets as trainers and other tools take them: what is written for each, and what is read back."""
