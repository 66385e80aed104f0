"""Search of the nearest vectors: exact, and approximate for millions of them."""
