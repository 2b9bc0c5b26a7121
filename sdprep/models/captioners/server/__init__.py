"""Captions from a server with the Chat Completions API."""
