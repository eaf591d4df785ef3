"""BIDS, in and out: which scans a data set has, and results as a derivative."""
