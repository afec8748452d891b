"""Choosing tiles: candidates, what they cost, and the best plan with or without them."""
