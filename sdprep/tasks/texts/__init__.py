"""Captions and tags as text: reading them beside their images, and changing them as planned."""
