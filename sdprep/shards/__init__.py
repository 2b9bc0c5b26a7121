"""Images in tars, tables and buckets, cut into shards; and the results of shards."""
