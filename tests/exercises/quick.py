"""Exercise 0.1 with less patience, where another process finds it."""

from course_lib.exercises.lesson_00 import CountUsers


class QuickCount(CountUsers):
    """Ends what never ends sooner."""

    seconds = 0.5
