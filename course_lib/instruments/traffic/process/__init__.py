"""The process in which the workers are, and from which the server is watched. It knows asyncpg and nothing else."""
