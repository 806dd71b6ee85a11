"""`demo` and what is below it: the bundled API, by itself and with the UI."""

from typing import Any

import click


@click.group(invoke_without_command=True)
@click.pass_context
def demo(context: click.Context) -> int | None:
    """Load everything once from the bundled API, into data/demo.

    No key, no network, and your own settings and database are left alone. `ui` opens the Dagster
    UI on it, while its account lives on, and `chaos` breaks something there; `serve` is the
    bundled API by itself.
    """
    if context.invoked_subcommand:
        return None
    from incident_assets.demo.load import load

    return load()


@demo.command(context_settings={"show_default": True})
@click.option(
    "--day-minutes",
    type=click.FloatRange(0, 24 * 60, min_open=True),
    default=10.0,
    help="In which a day of the account passes, until it has come to the present.",
)
def ui(day_minutes: float) -> int:
    """Open the Dagster UI on the demo, whose account lives on; schedules are on."""
    from incident_assets.demo.ui import open_ui

    return open_ui(day_minutes)


@demo.command(context_settings={"show_default": True})
@click.argument("kind", required=False)
@click.option("--seconds", type=click.FloatRange(0), default=300.0, help="Until it is healed.")
def chaos(kind: str | None, seconds: float) -> int:
    """Break something in the demo that `ui` runs, and heal it after a while.

    Without KIND, what can break is listed.
    """
    from incident_assets.demo.chaos import TROUBLES, ask_for
    from incident_assets.demo.place import FOLDER
    from incident_assets.sync.terminal import format_table

    if kind is None or kind not in TROUBLES:
        rows = [(name, trouble.breaks) for name, trouble in TROUBLES.items()]
        click.echo(format_table(("kind", "what breaks"), rows), err=kind is not None)
        return 0 if kind is None else 2
    told = ask_for(FOLDER, kind, seconds)
    click.echo(told or "No demo is running here: start `make demo-ui` first.", err=told is None)
    return 0 if told else 2


@demo.command(context_settings={"show_default": True})
@click.option("--port", default=8099, help="0 picks a free one.")
@click.option("--incidents", default=1000, help="How many there are.")
@click.option("--seed", default=1, help="Another one makes another account.")
@click.option("--latency-ms", default=0.0, help="How long each answer waits.")
@click.option("--rate-limit/--no-rate-limit", default=True, help="Answer 429 beyond the limits.")
@click.option("--key", default="demo-key", help="The only key that is let in.")
@click.option("--prefix", default="", help="Path in front of every endpoint.")
@click.option(
    "--calendar",
    type=click.Choice(["before", "now", "2027"]),
    default="now",
    help="Whose paths there are: those of August 2026, both versions, or 2027, some gone.",
)
@click.option(
    "--gone",
    type=click.Choice(["404", "410", "redirect", "empty"]),
    default="404",
    help="What paths that are gone answer in 2027.",
)
def serve(incidents: int, seed: int, port: int, **options: Any) -> int:
    """Serve the bundled API alone, for pointing anything at it, until interrupted."""
    from incident_assets.demo.serve import serve_alone

    return serve_alone(incidents, seed, port, **options)
