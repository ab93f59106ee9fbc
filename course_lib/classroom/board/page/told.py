"""The board as the page is told it: plain values, and words for whoever does not see colours or signs."""

from __future__ import annotations

from typing import Any

from course_lib.classroom.board.standing import Board, Learner
from course_lib.classroom.board.watching import Sight
from course_lib.judging.exercise import Exercise

MISTAKES = 3  # so many can be spoken of


def told(sight: Sight) -> dict[str, Any]:
    """Everything on the page. Two that are equal look the same; the time of day is not in it."""
    board = sight.board
    rows = [_row(board, learner) for learner in board.learners]
    number = {learner.role: place for place, learner in enumerate(board.learners)}
    return {
        "class_name": board.class_name,
        "trouble": sight.trouble,
        "exercises": [
            {"id": one.id, "title": one.title, "lesson": one.lesson, "right": board.right(one)}
            for one in board.exercises
        ],
        "learners": rows,
        "stuck": [
            {
                "learner": number[one.learner.role], "id": one.exercise.id, "title": one.exercise.title,
                "mistake": one.mistake, "tries": one.tries, "minutes": one.minutes,
            }
            for one in board.stuck()
        ],
        "mistakes": [
            {
                "id": one.exercise.id, "title": one.exercise.title, "name": one.said.name,
                "learners": one.learners, "seen": one.said.seen, "ask": one.said.ask,
            }
            for one in board.mistakes()[:MISTAKES]
        ],
    }  # fmt: skip


def _row(board: Board, learner: Learner) -> dict[str, Any]:
    cells = [_cell(board, learner, exercise) for exercise in board.exercises] if learner.shown else []
    return {"name": learner.name, "shown": learner.shown, "quiet": board.quiet(learner), "cells": cells}


def _cell(board: Board, learner: Learner, exercise: Exercise) -> dict[str, Any]:
    return {"look": board.look(learner, exercise), "tries": board.tries(learner, exercise)}
