"""``course …``: each command is a few lines over the rooms below."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from course_lib.cli.classroom import classroom
from course_lib.cli.db import db

app = typer.Typer(
    name="course",
    help="Databases for AI Engineers: lessons that run on a real PostgreSQL.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,  # they show variables, and passwords among them; see course_lib.cli.entry
)
LEARNING, TEACHING = "Learning", "For a class"
MENDING, AUTHORS = "When something does not work", "For authors"
PassOn = {"allow_extra_args": True, "ignore_unknown_options": True}
Number = Annotated[str, typer.Argument(help="The lesson's number, for example 00.", show_default=False)]
Id = Annotated[str, typer.Argument(help="For example 1.3.", show_default=False)]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"course {version('databases-for-ai-engineers')}")
        raise typer.Exit


@app.callback()
def course(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Databases for AI Engineers: lessons that run on a real PostgreSQL."""


@app.command(context_settings=PassOn, rich_help_panel=LEARNING)
def lab(
    context: typer.Context,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
    port: Annotated[int, typer.Option(help="The first port to try.")] = 8888,
) -> None:
    """Start the server and open JupyterLab on your own copy of the lessons. Ctrl-C ends both."""
    from course_lib.cli.lab import run_lab

    run_lab(port=port, browser=not no_browser, extra=context.args)


@app.command(rich_help_panel=LEARNING)
def update(
    listed: Annotated[bool, typer.Option("--list", help="Only say which are older, and what would be done.")] = False,
) -> None:
    """Renew your copies in work/ after a git pull, as `course lab` does; what you wrote is kept."""
    from course_lib.cli.update import run_update

    run_update(listed)


@app.command(rich_help_panel=LEARNING)
def serve(
    port: Annotated[int, typer.Option(help="The first port to try.", min=1, max=65515)] = 8000,
    root_path: Annotated[str, typer.Option(help="The path below which a proxy shows it.")] = "",
) -> None:
    """Run the product of lesson 08 with its page, on a fresh, seeded database, for you alone. Ctrl-C ends it."""
    from course_lib.cli.serve import run_serve

    run_serve(port, root_path.rstrip("/"))


@app.command(rich_help_panel=LEARNING)
def worker(
    attached: Annotated[bool, typer.Option("--attached", hidden=True)] = False,
) -> None:
    """Do the jobs of the service on the database of DATABASE_URL; `course serve` has one of its own."""
    from course_lib.cli.serve import run_worker

    run_worker(attached)


@app.command(rich_help_panel=LEARNING)
def check(
    what: Annotated[str, typer.Argument(help="A lesson (01) or an exercise (1.3).", show_default=False)],
) -> None:
    """Judge your saved answers in work/exercises/, as the notebook does."""
    from course_lib.cli.exercises import check_notebook

    raise typer.Exit(check_notebook(what))


@app.command(rich_help_panel=LEARNING)
def hint(
    exercise: Id,
    number: Annotated[int | None, typer.Argument(help="Which hint; the next one if left out.")] = None,
) -> None:
    """Give the next hint of an exercise."""
    from course_lib.cli.screen import show_text
    from course_lib.exercises import hint as next_hint

    show_text(next_hint(exercise, number))


@app.command(rich_help_panel=LEARNING)
def solution(exercise: Id) -> None:
    """Show a solution, once you have passed or when you ask a second time."""
    from course_lib.cli.screen import show_text
    from course_lib.exercises import solution as shown_solution

    show_text(shown_solution(exercise))


@app.command(rich_help_panel=LEARNING)
def progress() -> None:
    """Show what you have solved."""
    from course_lib.exercises import progress as current_progress

    typer.echo(str(current_progress()))


@app.command(rich_help_panel=LEARNING)
def drill(
    ids: Annotated[list[str] | None, typer.Argument(help="Questions and drills by name.", show_default=False)] = None,
    topic: Annotated[str | None, typer.Option(help="Only of this topic, for example vectors.")] = None,
    level: Annotated[str | None, typer.Option(help="Only junior, mid or senior.")] = None,
    minutes: Annotated[
        int | None, typer.Option(help="How much time there is; an hour a day if left out.", min=1)
    ] = None,
    until: Annotated[str | None, typer.Option(help="The day of the interview, 2027-01-31, or none.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="Show all that there is, and when it comes again.")] = False,
    editor: Annotated[bool, typer.Option("--editor", help="Write answers in $EDITOR.")] = False,
) -> None:
    """Today's interview questions and repair drills: what is due, by spaced repetition, and something new."""
    from course_lib.cli.drill import run_drill

    run_drill(ids or [], topic, level, minutes, until, listed, editor)


@app.command(rich_help_panel=LEARNING)
def interview(
    level: Annotated[str, typer.Option(help="junior, mid or senior.")] = "mid",
    minutes: Annotated[int, typer.Option(help="How long it may take.")] = 45,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the one that was left.")] = False,
    editor: Annotated[bool, typer.Option("--editor", help="Write answers in $EDITOR.")] = False,
    sheet: Annotated[bool, typer.Option("--sheet", help="Only write all questions to one page.")] = False,
) -> None:
    """A mock interview: spoken questions, a repair drill, a design question, and a report with what to repeat."""
    from course_lib.cli.interview import run_interview, write_sheet

    if sheet:
        write_sheet(None)
    else:
        run_interview(level, minutes, resume, editor)


@app.command(rich_help_panel=LEARNING)
def reset(
    number: Number,
    exercises: Annotated[bool, typer.Option("--exercises", help="The lesson's exercises, and not the lesson.")] = False,
) -> None:
    """Give back a lesson, or its exercises, as it was; yours is kept in work/backup/."""
    from course_lib.notebooks import Workspace

    workspace = Workspace()
    copy, backup = workspace.reset(number, exercises)
    typer.echo(f"{workspace.spoken(copy)} is as it was.")
    if backup is not None:
        typer.echo(f"Yours is kept as {workspace.spoken(backup)}.")
    for remark in workspace.remarks:
        typer.echo(remark)


app.add_typer(classroom, name="classroom", rich_help_panel=TEACHING)


@app.command(rich_help_panel=TEACHING)
def bundle(
    to: Annotated[Path, typer.Option(help="The folder for it: a new one, an empty one, or a bundle.")],
    platform: Annotated[
        list[str] | None,
        typer.Option(help="linux, linux-arm, macos, macos-intel or windows; may be given again.", show_default=False),
    ] = None,
    python: Annotated[
        list[str] | None, typer.Option(help="For example 3.12; may be given again.", show_default=False)
    ] = None,
) -> None:
    """Fetch all packages for a room without a network: there, make lab installs from the folder.

    For linux, macos and windows and the Python of this environment, if nothing else is said.
    """
    from course_lib.cli.bundling import run_bundle

    raise typer.Exit(run_bundle(to, platform or [], python or []))


@app.command(rich_help_panel=TEACHING)
def present(
    lesson: Number,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
) -> None:
    """Open a lesson alone and large, to show it to a room, in the JupyterLab that runs."""
    from course_lib.cli.present import present_lesson

    present_lesson(lesson, browser=not no_browser)


@app.command(rich_help_panel=MENDING)
def doctor() -> None:
    """Look at everything the course needs and say how to mend what is missing."""
    from course_lib.cli.doctor import run_doctor

    raise typer.Exit(run_doctor())


app.add_typer(db, name="db", rich_help_panel=MENDING)


@app.command(context_settings=PassOn, rich_help_panel=AUTHORS)
def test(context: typer.Context) -> None:
    """Check everything: style, types, the library, and every output of every notebook."""
    from course_lib.cli.checks import run_checks

    raise typer.Exit(run_checks(context.args))


@app.command(rich_help_panel=AUTHORS)
def lint() -> None:
    """Ruff over code and notebooks, mypy over the package."""
    from course_lib.cli.checks import run_lint

    raise typer.Exit(run_lint())


@app.command(rich_help_panel=AUTHORS)
def notebooks(
    numbers: Annotated[list[str] | None, typer.Argument(help="Lessons, all if none.", show_default=False)] = None,
) -> None:
    """Execute the committed notebooks again and store their outputs."""
    from course_lib.cli.checks import execute_notebooks

    execute_notebooks(numbers or [])


@app.command(rich_help_panel=AUTHORS)
def exercises() -> None:
    """Make exercises/ from solutions/."""
    from course_lib.exercises.book import generate

    for path in generate():
        typer.echo(f"{path.name} written.")


@app.command(rich_help_panel=AUTHORS)
def bench(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer repetitions and rows.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="A part, for example vectors; may be given again.")] = None,
    rows: Annotated[list[int] | None, typer.Option(help="A size for vectors; may be given again.")] = None,
) -> None:
    """Measure everything against the peers and the limits, and write bench-results/.

    With sizes: --only vectors --rows 100000 --rows 500000 --rows 1000000, and --only choosing --rows 100000
    """
    from course_lib.cli.bench import run_bench

    run_bench(quick, only or [], rows or [])


@app.command(rich_help_panel=AUTHORS)
def site() -> None:
    """Build the pages to read without an installation, from the executed notebooks, into site/."""
    from course_lib.cli.site import run_site

    run_site()
