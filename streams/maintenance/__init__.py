"""From track events to neighbour lists and the change feed."""
