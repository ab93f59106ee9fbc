"""Tracebacks of the learner's own frames and the last line. ``%tb`` shows the whole one, ``%xmode`` still chooses."""

from __future__ import annotations

import linecache
import traceback as standard
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from IPython.core.ultratb import AutoFormattedTB

from course_lib.kernel.folding import LeftOut, folded
from course_lib.masking import masked_code, short

FOLDED_MODE = "Context"  # IPython's usual one; another is somebody's choice
MEMBERS = 5  # of a group, that are shown


class ShortTracebacks(AutoFormattedTB):
    """IPython's own, with an exception folded while it is laid out. To be set as a shell's ``InteractiveTB``."""

    _whole = False
    _shown: BaseException | None = None
    _left_out = LeftOut()

    @classmethod
    def in_place_of(cls, earlier: AutoFormattedTB) -> ShortTracebacks:
        """One with the theme, the mode and all else that ``earlier`` was given."""
        made = cls(theme_name="nocolor")
        vars(made).update(vars(earlier))
        return made

    @contextmanager
    def showing(self, whole: bool) -> Iterator[None]:
        """While the block runs, nothing is left out if ``whole``."""
        self._whole = whole
        try:
            yield
        finally:
            self._whole = False

    def structured_traceback(
        self, etype: Any, evalue: BaseException | None, etb: TracebackType | None = None,
        tb_offset: int | None = None, context: int = 5,
    ) -> list[str]:  # fmt: skip
        """The lines to show, without secrets."""
        if self.mode != FOLDED_MODE or self._whole or evalue is None:
            lines = super().structured_traceback(etype, evalue, etb, tb_offset, context)
        else:
            with folded(evalue, etb) as self._left_out:
                self._shown = evalue
                lines = super().structured_traceback(etype, evalue, evalue.__traceback__, tb_offset, context)
            self._shown, self.tb = None, etb  # a debugger starts from the latter
        return [masked_code(line) for line in lines]

    def story(self, error: BaseException) -> list[str]:
        """The lines for ``error`` with the members of groups, which IPython's brief modes do not know."""
        if self.mode in self.verbose_modes:
            return self.structured_traceback(type(error), error, error.__traceback__)
        return [masked_code(line) for line in standard.format_exception(error)]

    def get_records(self, etb: TracebackType, context: int, tb_offset: int) -> Any:
        """Two corrections to IPython 9.18, for frames of code without a file, as cells are.

        It takes the line from the frame, which has moved on where a ``finally`` or ``except`` ran since; and it takes
        lines of a generator expression from the nearest ``def`` above, or from the first of the cell.
        """
        records = super().get_records(etb, context, tb_offset)
        step: TracebackType | None = etb
        for record in records:
            while step is not None and step.tb_frame is not record.frame:
                step = step.tb_next
            if step is not None:
                record.lineno, code, step = step.tb_lineno, step.tb_frame.f_code, step.tb_next
                if code.co_name == "<genexpr>":
                    record.raw_lines = linecache.getlines(code.co_filename)[code.co_firstlineno - 1 :]
        return records

    def format_exception_as_a_whole(
        self, etype: type, evalue: BaseException | None, etb: TracebackType | None, context: int,
        tb_offset: int | None,
    ) -> list[list[str]]:  # fmt: skip
        """One exception of a chain, and below it the members of a group, each with its own chain."""
        [lines] = super().format_exception_as_a_whole(etype, evalue, etb, context, tb_offset)
        if isinstance(evalue, BaseExceptionGroup):
            shown = evalue.exceptions if self._whole else evalue.exceptions[:MEMBERS]
            for number, member in enumerate(shown, 1):
                told = super().structured_traceback(type(member), member, member.__traceback__, tb_offset, context)
                lines += [f"  +-+---------------- {number} ----------------", _indented("\n".join(told[1:]))]
            if more := len(evalue.exceptions) - len(shown):
                lines.append(f"  +---------------- and {more} more ----------------")
        return [lines]

    def format_exception(self, etype: Any, evalue: Any) -> list[str]:
        """The last line with the notes; before it, whether something was left out."""
        lines: list[str] = super().format_exception(etype, evalue)  # type: ignore[no-untyped-call]
        if evalue is self._shown and (note := self._left_out_note()):
            lines.insert(0, f"({note}; %tb shows everything)\n")
        return lines

    def _left_out_note(self) -> str:
        cause, reason = self._left_out.cause, ""
        if cause is not None:
            said = str(cause).partition("\n")[0]
            if said and said not in str(self._shown):  # SQLAlchemy repeats what the driver says, others do not
                reason = f", with the cause, {type(cause).__name__}: {short(said, 120)}"
        if self._left_out.library or reason:
            return f"library code left out{reason}"
        return "calls left out" if self._left_out.calls else ""


def _indented(text: str) -> str:
    return "\n".join(f"  | {line}".rstrip() for line in text.splitlines())
