"""Vectors: where they lie, how far they are from a question, how an index finds them, and how many it finds."""
