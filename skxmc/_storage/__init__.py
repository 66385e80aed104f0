"""Models, pickles, checkpoints and caches on disk."""
