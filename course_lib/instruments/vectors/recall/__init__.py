"""Recall: how many of the truly nearest rows a search finds, measured so that the exact side really is exact."""
