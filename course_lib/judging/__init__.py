"""The machinery of a check: an attempt on a database of its own, its clock, eyes and words. It knows no exercise."""
