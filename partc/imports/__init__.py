"""Profiles of other tools, read into costs of blocks.

`read` tells what a file is from what is in it, `attribute` gives its times to the ops of a model.
"""
