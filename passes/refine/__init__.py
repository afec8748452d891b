"""Measuring the segments of plans, and correcting the costs that plans are chosen by."""
