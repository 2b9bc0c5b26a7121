"""sdprep's own decoder for BLIP. It imports models and what is below them."""
