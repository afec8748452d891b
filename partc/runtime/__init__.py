"""Executes a bundle: every host runs its segments and passes tensors to the others."""
