"""Tests that a learner has written, tried on right code and on mutants of it: by pytest, in a process of its own.

``answered`` takes the answer's source out of its notebook, ``run_tests`` runs it on each ``Case``, and what it says is
a ``Report``. In the process, ``plugin`` is the judge's conftest.
"""
