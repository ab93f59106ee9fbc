"""4.9: from one embedding model to the next, while people search and write."""

from __future__ import annotations

from typing import ClassVar

from course_lib.exercises.lesson_04.scenes.moving import Move
from course_lib.exercises.lesson_04.two_models import CREATE
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise


class ModelMove(Exercise):
    """Write both, fill in batches, switch once, search by one."""

    id = "4.9"
    title = "A new embedding model while searches go on"
    answer = "ModelMove"
    recipe = "empty"
    seconds = 15.0
    minutes = 25
    points = 3
    level = "senior"
    hints: ClassVar = (
        "Four steps, in this order: new passages get both vectors; the old ones get their second vector in batches; "
        "when none is without, one row in `search_model` changes; searches look at that row each time.",
        "`backfill` in a loop: a session reads up to `batch` passages whose `embedding_next` is NULL and is closed; "
        "the model is asked; another session writes the vectors and commits. What is written is not read again.",
        "`search` reads `current` first, and that decides both: which model embeds the question, and which column it "
        "is compared with. One without the other finds nonsense, and no error says so.",
        "`switch` counts passages without a second vector. If there is one: False, and nothing changes.",
    )
    why = (
        "Vectors of two models share no space: comparing them is no error, it is noise. So there is never a search "
        "over both; there are two columns, and one row that says which is in use, for all processes at the same "
        "moment. Writers fill both columns before the backfill starts, or it never ends. Each batch is a short "
        "transaction, with none open while the model is asked, so it may fail anywhere and go on from there."
    )
    follow_up = (
        "The new column needs an HNSW index before the switch. How do you build it without stopping writers, how "
        "would you compare the two models on real questions before switching, and when is the old column dropped?"
    )
    mistakes: ClassVar = {
        "method missing": "`ModelMove` has no `{method}`. | It has four: `store`, `backfill`, `switch`, `search`.",
        "not written": "`{method}` of `ModelMove` is not written yet. | It has four: `store`, `backfill`, `switch`, "
        "`search`.",
        "not a list": "`search` returned {kind}, and a list of ids was asked for. | `(await session.scalars(…)).all()`",
        "nothing returned": "`search` returned None. | Did you forget `return`?",
        "not a bool": "`switch` returned {kind}, and True or False was asked for. "
        "| True when it has switched, False when passages are still waiting.",
        "not stored": "After `store` and the caller's commit there are {count} passages, and {wanted} were stored. "
        "| One row for each text; the commit is the caller's.",
        "stored otherwise": "{count} passages were stored with an old vector that is not what the old model gives. "
        "| A search that began before the switch still compares with that column.",
        "commits itself": "The caller rolled back after `{method}`, and what it did is there for everybody. "
        "| The commit is the caller's.",
        "ends it": "`switch` ended the transaction that its caller had begun. "
        "| Whether that is committed or rolled back is the caller's to say.",
        "connection held": "While the model was asked in `{method}`, {count} connection(s) were out of the pool. "
        "| Close the session before you ask, and open one afterwards.",
        "batch too large": "The model was asked for {count} texts at once, with batch={batch}. | `limit(batch)`.",
        "nothing kept": "When `backfill` had asked for {count} vectors and wanted more, others could see none of them. "
        "| Commit each batch before the next is begun.",
        "asked twice": "In one call of `{method}` {count} texts were embedded that had been embedded before. "
        "| What is asked for is written before the next batch is read.",
        "no error": "The {which} model failed in `store`, {count} of 1 passage was stored, and no error came through. "
        "| What the models raise is for whoever stores something: they have to hear of it.",
        "starts over": "The model failed, `backfill` was called again, and {count} texts that had their vector were "
        "embedded once more. | Ask for those that are without one.",
        "left behind": "`backfill` came to its end, and {count} passages have no second vector. "
        "| Some came while it ran: one in the middle, one while the model was at work on the last batch, and that had "
        "drawn its id before all others. When is it at its end?",
        "other vectors": "{count} passages have a second vector that is not what the next model gives for their text. "
        "| Do the vectors go to the rows that their texts came from?",
        "switched too early": "`switch` said True while {count} passages had no second vector. "
        "| Whoever searches by the new vectors does not find those.",
        "half switched": "`switch` said False, and after the caller's commit `search_model` says 'next'. "
        "| Look first, or do both in one statement.",
        "never switches": "`switch` said False {when}, although no passage was waiting. "
        "| What does it look at: the table, or what this program remembers?",
        "stored with one vector": "A passage that was stored after the backfill has no second vector, so `switch` "
        "said False. | From the beginning of the move, `store` writes both.",
        "mixed": "{when}, `search` compared vectors of two models. "
        "| The question and the column have to be of the same model, in every row.",
        "missing": "{when}, `search` did not find passages that have no second vector yet. "
        "| Until the switch, everybody searches by the old vectors.",
        "not by the row": "{when}, `search` goes by the new vectors. "
        "| All passages have them by now, and still it is the row in `search_model` that says which are in use.",
        "still old": "After the switch, `search` goes by the old vectors. | Where does it learn that things changed?",
        "kept in memory": "After the switch, the program that switched searches by the new vectors, and another one by "
        "the old. | What decides has to be read from the database, each time.",
        "wrong passages": "{when}, {count} passages came, and {right} of them are among the nearest {n}. "
        "| By `cosine_distance`, nearest first, `limit(k)`.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        for statement in CREATE:
            await attempt.sql(statement)
        await Move(attempt).run()
