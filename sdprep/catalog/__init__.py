"""The SQLite file of a dataset: runs, results, states, journal, history. It imports rules and what is below them."""
