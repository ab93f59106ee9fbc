"""What the judges of this lesson share: awkward texts, and a model that counts what reaches it."""
