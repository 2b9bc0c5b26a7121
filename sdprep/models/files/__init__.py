"""Finding, downloading and verifying the files of a model. It imports models and what is below them."""
