"""Edits of one text that change no character they were not asked to change."""
