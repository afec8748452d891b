"""Measures on a node, takes its part of a bundle, and serves it: `partc agent` and its clients."""
