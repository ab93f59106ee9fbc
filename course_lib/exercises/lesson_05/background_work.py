"""5.6: work that goes on after its request is over, with a session of its own."""

from __future__ import annotations

from typing import ClassVar

from course_lib.exercises.lesson_05.scenes.engines import try_out
from course_lib.exercises.lesson_05.scenes.uploads import Uploads
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.staging import add_user


class BackgroundWork(Exercise):
    """A commit, a task that somebody holds on to, and a second session."""

    id = "5.6"
    title = "Work in the background"
    answer = "handle_upload"
    minutes = 15
    points = 3
    level = "senior"
    recipe = "migrated"
    seconds = 15.0
    hints: ClassVar = (
        "Two transactions with the slow part between them: the request's own, which stores the document, and the "
        "task's, which stores what became of it. What must the task be given so that it can find the document?",
        "The request's session is closed when the handler returns. The task opens its own from `sessions`, after "
        "`process` has answered.",
        "The event loop keeps only weak references to tasks. Put the task into a set outside of the function, and have "
        "`add_done_callback` take it out again.",
    )
    why = (
        "The commit comes first: before it there is nothing for the task to find, and a refused document is no "
        "document to work on. What crosses over is an id. The task's session lives as long as its last transaction, so "
        "no connection waits for the model. The set keeps the task alive, and the failure is stored because nobody "
        "awaits the task."
    )
    follow_up = (
        "The process is restarted while such tasks are running. What is lost, and what would you store so that nothing "
        "is?"
    )
    mistakes: ClassVar = {
        "not stored": "`handle_upload` returned, and other connections see no document. "
        "| The request's session is closed without a commit, if you do not commit.",
        "nothing returned": "`handle_upload` returned None. | The document's id is known after a flush.",
        "another value": "`handle_upload` returned {kind}, and not the id of the document it stored. "
        "| The document's id, a `UUID`.",
        "wrong title": "The document was given the title {given!r}, and {title!r} is stored. | As it was given.",
        "waited for": "`process` had not answered yet, and `handle_upload` had not returned either. "
        "| The caller is not to wait for the work: make it a task.",
        "never started": "`handle_upload` had returned, and `process` was not called. "
        "| A coroutine that is only called does nothing. What runs it?",
        "called twice": "For one document `process` was called {calls} times. | Once is enough, and costs half.",
        "started too early": "The work began before the document was committed. "
        "| If the commit fails, it works on nothing; if it is slow, it finds nothing. Start it afterwards.",
        "refused, and started": "The document was refused with {error}, and the work was begun all the same. "
        "| Nothing is stored until the commit has succeeded.",
        "error swallowed": "The table refused the document, and `handle_upload` returned {said}. "
        "| A request that failed has to say so.",
        "not an id": "`process` was given {kind}, and the document's id was asked for. "
        "| An ORM object belongs to its session; an id belongs to nobody.",
        "wrong status": "While `process` was at work, the stored document had the status {status!r}. "
        "| Store it as 'processing': somebody may ask meanwhile.",
        "request's session": "The task used the request's session. "
        "| That one ends with the request. `sessions()` makes another.",
        "connection held": "While `process` was at work, {held} connection(s) were held. "
        "| Open the task's session when there is something to store.",
        "task lost": "Garbage was collected while `process` was at work, and the task was gone with it. "
        "| The event loop holds a task by a weak reference only. Who holds yours?",
        "tasks lost": "Garbage was collected while {n} uploads were at work, and {lost} of their tasks were gone. "
        "| Each task has to be held until it is done, however many there are.",
        "let go early": "One of two uploads was done, garbage was collected, and the task of the other one was gone, "
        "in the middle of `process`. "
        "| Who is done takes itself out of what holds the tasks, and none of the others.",
        "never finished": "`process` had answered, and after {seconds:.0f} seconds the document's status was still "
        "{status!r}. | What the task changed has to be committed. By which session?",
        "result not stored": "`process` answered {result}, and the document has the status {status!r} and, for its "
        "meta, {meta}. | 'ready', and the dict as it came.",
        "failure not stored": "`process` raised {error!r} ({length} characters), and the document has the status "
        "{status!r} and the error {stored!r} ({kept}). "
        "| Nobody awaits the task, so it is up to the task to store 'failed' and `str(error)`, all of it.",
        "not side by side": "`process` answered for {n} uploads in the same moment, and of {wrong} of them the outcome "
        "was not stored. | One at a time they were. What do the tasks share: a session, a lock, a variable?",
        "another document": "Documents of somebody else were changed. "
        "| A source is unique for one user only. What tells your document from all others?",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        uploads = Uploads(attempt, await add_user(attempt))
        await try_out(attempt, uploads.run)
