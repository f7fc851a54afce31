"""`mess export`: what the store holds at one point, as files that others read."""
