"""One thin module per command: parse, call the task, print the report. It imports cli and everything below it."""
