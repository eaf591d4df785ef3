"""Programs, one a file, run from the bundle's root as `python -m scripts.NAME`."""
