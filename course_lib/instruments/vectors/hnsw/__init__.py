"""An HNSW graph over so few vectors that all of it can be seen: built, walked through and drawn."""
