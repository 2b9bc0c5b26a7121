"""`sdprep bench`: measuring a run, and what follows from the measurement."""
