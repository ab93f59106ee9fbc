"""What the judges of this lesson share: the environment that runs a migration, and how a database looks to it."""
