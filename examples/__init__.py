"""What a reader can run: models built by code."""
