"""Finding, reading, decoding and fitting images. It imports only what is below the folders."""
