"""The steps of `train_demo_models.py`, one module each."""
