"""Programs that measure this bundle beside its peers."""
