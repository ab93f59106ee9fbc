"""The relay: a process that stands between clients and a PostgreSQL, passes everything on and counts it.

It imports the standard library only, so that it starts in the time of a few statements.
"""
