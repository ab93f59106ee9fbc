"""The data of the embedded server as one thing that is made, put aside and put back. They are disposable."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from course_lib.postgres.files import remove_tree
from course_lib.postgres.obstacles import no_room, obstacle
from course_lib.postgres.room import ASIDE, is_roomy, make_room
from course_lib.postgres.starting import NotStarted, Programs

EARLIER_ASIDE = "data.broken"  # what the same was called by earlier versions of the course


@dataclass(frozen=True)
class DataFolder:
    """``data`` in the server's folder. Whoever calls holds the folder's lock, and no server runs."""

    path: Path
    programs: Programs

    def exists(self) -> bool:
        return os.path.lexists(self.path)

    def make(self) -> None:
        """Make new data where there are none.

        Raises:
            CourseError: something of the system is in the way.
            NotStarted: initdb failed for a reason of its own.
        """
        self.prepare().rename(self.path)

    def prepare(self) -> Path:
        """Run initdb into a folder of its own, so that half-made data never count. Returns the folder."""
        for leftover in self.path.parent.glob("data.[0-9]*"):  # of a start that was killed
            remove_tree(leftover)
        self.require_room()
        partial = self.path.with_name(f"data.{os.getpid()}")
        try:
            self._initialise(partial)
        except NotStarted:  # it may have been killed: once more
            self._initialise(partial)
        return partial

    def _initialise(self, partial: Path) -> None:
        try:
            partial.mkdir(mode=0o700)
            if (account := self.programs.account) is not None:
                os.chown(partial, account.uid, account.gid)
            self.programs.make_data(partial)
        except BaseException as error:
            sentence = obstacle(self.path.parent, self.programs.installation)  # before its removal makes room again
            remove_tree(partial)
            if sentence and isinstance(error, NotStarted | OSError):
                raise sentence from error
            raise

    def require_room(self) -> None:
        """Room for new data, for which the course's own old things go first.

        Raises:
            CourseError: there is too little even then.
        """
        folder = self.path.parent
        if not is_roomy(folder):
            make_room(folder, self.programs.installation)
        if not is_roomy(folder):
            raise no_room(folder)

    def put_aside(self) -> Path:
        """Rename the data, in place of those put aside before. Returns where they are now."""
        aside = self.path.with_name(ASIDE)
        for place in (aside, self.path.with_name(EARLIER_ASIDE)):
            remove_tree(place)
        if os.path.lexists(aside):  # somebody else's, and full
            aside = aside.with_name(f"{ASIDE}.{time.time_ns()}")
        self.path.rename(aside)
        return aside

    def put_back(self, aside: Path) -> None:
        """Undo ``put_aside``, and remove what was made meanwhile."""
        if self.exists():
            remove_tree(self.path)
        aside.rename(self.path)
