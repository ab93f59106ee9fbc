"""A class: many learners on one server, and a teacher who sees who is stuck where."""
