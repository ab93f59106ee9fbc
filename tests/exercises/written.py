"""Answers as learners write them: right ones, and wrong ones with the name of the mistake each must be told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

Answer = TypeVar("Answer")


@dataclass
class Answers:
    """The written answers to one exercise; its decorators leave what they mark as it is."""

    exercise: str
    right_ones: list[Any] = field(default_factory=list)
    wrong_ones: list[tuple[str, Any]] = field(default_factory=list)

    def right(self, answer: Answer) -> Answer:
        self.right_ones.append(answer)
        return answer

    def wrong(self, mistake: str) -> Callable[[Answer], Answer]:
        def keep(answer: Answer) -> Answer:
            self.wrong_ones.append((mistake, answer))
            return answer

        return keep
