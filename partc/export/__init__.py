"""Bundles in the formats of other servers."""
