"""The commands on the results of shards."""
