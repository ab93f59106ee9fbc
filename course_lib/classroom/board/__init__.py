"""The board of a class: who has solved what, who is stuck, and which mistakes are made now."""

from course_lib.classroom.board.installing import forget_learner, install, name_learners

__all__ = ["forget_learner", "install", "name_learners"]
