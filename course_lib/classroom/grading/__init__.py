"""Exercises as a course of nbgrader's, and what its autograder takes from here.

``export`` writes the course, and needs no nbgrader. The other modules are named in the exported configuration, and
nbgrader imports them: ``collecting`` for what learners hand in, ``given`` and ``judged`` in place of running a
submission in a kernel, where an answer could end it, keep it, or be its own judge.
"""
