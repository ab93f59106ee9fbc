"""The stage: sessions stepped by name, so that a race between them happens the same way every time."""

from course_lib.instruments.stage.actor import Actor
from course_lib.instruments.stage.stage import Stage
from course_lib.instruments.stage.step import Step

__all__ = ["Actor", "Stage", "Step"]
