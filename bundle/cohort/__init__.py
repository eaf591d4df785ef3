"""Thousands of scans: found, handed to workers, tried again, resumed, and told of in tables."""
