"""Where a class asks for it: what a verdict was, told to the board on the class's server.

Of a verdict go the exercise, its state, the name of the mistake and when it was. No code, and nothing that was printed.
"""

from course_lib.judging.board.sending import report, wait_for_sending

__all__ = ["report", "wait_for_sending"]
