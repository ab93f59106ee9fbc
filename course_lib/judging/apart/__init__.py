"""An answer judged in a process of its own, made from the cells of its notebook.

``verdicts.judge_apart`` is what to call. It starts ``child``, which runs the cells above the check as a notebook would
(``cells``), judges what they define, looks whether the judge is still what it was (``changes``), and tells what it
found in plain values (``wire``); ``process`` waits for it, at most for so long, and ends it with all that it started.
Whatever keeps, ends or spoils a process does so to that one.

What remains possible. Judges hand sessions, models and races to the answer, so both run in that process. A program that
sets out to forge a verdict from inside it can: it finds in the frames above it or among the objects of the interpreter
what signs the messages, or it changes the judge while it is called and puts everything back before it is looked at
again; drivers, SQLAlchemy and the standard library are not looked at, only what the judge itself is. And a grader's
kernel has run the same cells before: there ``check`` itself may be another function. This holds against answers that go
wrong in any way, and against those that tamper with what they find at its name; who grades for more than that reads the
submission.
"""
