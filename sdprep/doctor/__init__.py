"""What this machine can run, for `sdprep doctor` alone. It imports models and what is below them."""
