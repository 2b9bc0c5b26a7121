"""Florence-2 with its task tokens: its own vision tower and encoder, then the decode loop of BLIP."""
