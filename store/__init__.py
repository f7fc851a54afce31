"""The materialised store: schema, reads, writes, pools."""
