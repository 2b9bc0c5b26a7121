"""The command line: argument parsing, settings files, printed output. It may import every other folder."""
