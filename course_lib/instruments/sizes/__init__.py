"""Bytes by page: what a table of vectors and its index take, calculated from the layout, and looked up on disk."""
