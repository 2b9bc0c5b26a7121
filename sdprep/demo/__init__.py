"""Demo images and two tiny demo models trained on such drawings, as data. It imports nothing."""
