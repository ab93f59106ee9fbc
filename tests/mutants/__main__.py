"""``python -m tests.mutants``: judge the mutants of right answers, and print a score by exercise."""

from __future__ import annotations

from typing import Annotated

import typer

from course_lib.cli.checks import server_in_memory
from tests.mutants.results import SAMPLE, Record, Result, choose_sample, gaps, table, why_equal
from tests.mutants.running import Choice, Run

# not 09: its answers are tests, tried on mutants already; one that is changed is often as strict as before
LESSONS = ("00", "01", "02", "03", "04", "05", "06", "07", "08", "10")


def main(
    lesson: Annotated[list[str] | None, typer.Option(help="A lesson, for example 03; or several.")] = None,
    exercise: Annotated[list[str] | None, typer.Option(help="An exercise, for example 3.7; or several.")] = None,
    operator: Annotated[str, typer.Option(help="Only kinds that contain this: 'lock', or 'lock,retry'.")] = "",
    answers: Annotated[str, typer.Option(help="all, solution, others, or the name of a right answer.")] = "all",
    most: Annotated[int, typer.Option(help="At most so many mutants of each answer; 0 for all.")] = 0,
    seed: Annotated[int, typer.Option(help="Which ones these are.")] = 0,
    jobs: Annotated[int, typer.Option(help="Processes that judge side by side.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the last run was stopped.")] = False,
    survivors: Annotated[bool, typer.Option("--survivors", help="Judge again what passed in the last run.")] = False,
    sample: Annotated[int, typer.Option(help="Write so many killed ones of earlier runs to sample.txt, and end.")] = 0,
    verbose: Annotated[bool, typer.Option("--verbose", help="Say of each killed one by which mistake.")] = False,
) -> None:
    """Mutate every right answer, judge the mutants, and list those that passed. Ends with 1 where there are any."""
    if sample:
        known = [result for number in LESSONS for result in Record(number).read().values()]
        SAMPLE.write_text("\n".join(choose_sample(known, sample, seed)) + "\n", encoding="utf-8")
        raise typer.Exit
    numbers = sorted({one.zfill(2) for one in lesson or []} | {id.partition(".")[0].zfill(2) for id in exercise or []})
    found: list[Result] = []
    refused: list[str] = []
    with server_in_memory():
        for number in numbers or LESSONS:
            choice = Choice(number, tuple(exercise or ()), operator, answers, most, seed, resume, survivors)
            run = Run(choice, jobs, lambda line: typer.echo(line, err=True))
            results = run.go()
            refused += run.refused
            if verbose:
                show_killed(results)
            found += results
    show(found)
    for title in refused:
        typer.echo(f"Refused although right: {title}")
    raise typer.Exit(bool(refused) or any(result.state == "gap" for result in found))


def show_killed(results: list[Result]) -> None:
    """What each mutant that was found out was told."""
    for result in results:
        if result.outcome.killed:
            typer.echo(f"{result.key}   [{result.outcome.mistake}]")


def show(results: list[Result]) -> None:
    """The table, and the mutants that passed."""
    for line in table(results):
        typer.echo(line)
    listed = list(gaps(results))
    if listed:
        typer.echo(f"\n{len(listed)} passed and are not known to be equal:")
    for line in listed:
        typer.echo(line)
    for key in (result.key for result in results if result.outcome.killed and why_equal(result.key)):
        typer.echo(f"Listed as equal, and killed: {key}")


if __name__ == "__main__":
    typer.run(main)
