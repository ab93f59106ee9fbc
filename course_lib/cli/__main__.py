"""``python -m course_lib.cli``, for where the ``course`` script is not on the path."""

from course_lib.cli import main

main()
