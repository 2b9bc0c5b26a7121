"""sdprep's own decoder for BLIP, the only folder that imports torch. It imports models and what is below them."""
