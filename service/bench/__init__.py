"""`ctr-service bench`: how many requests a second a running service answers before its promise breaks."""
