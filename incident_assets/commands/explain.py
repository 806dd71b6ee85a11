"""`explain`: the rows behind a figure. An option for each key of a mart is made from the marts."""

import click

from incident_assets.commands.given import read_env_file, refuse
from incident_assets.settings import Settings, read_settings
from incident_assets.values import SettingError


class _Explain(click.Command):
    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        # An option for each key of a mart, so that a new mart needs no second description.
        from incident_assets.models.catalog import read_models

        marts: dict[str, list[str]] = {}
        for model in read_models().values():
            for column in model.grain if model.name.startswith("mart_") else ():
                marts.setdefault(column, []).append(model.name)
        options = [
            click.Option(
                ["--" + column.removesuffix("_id").replace("_", "-"), column],
                help=f"In {', '.join(names)}.",
            )
            for column, names in marts.items()
        ]
        *given, helping = super().get_params(ctx)
        return [*given, *options, helping]


@click.command(cls=_Explain)
@click.argument("mart", required=False)
@click.argument("metric", required=False)
def explain(mart: str | None, metric: str | None, **chosen: str | None) -> int:
    """Show where a figure comes from, row by row.

    METRIC is a column of the table MART, such as mttr_median of mart_incident_weekly; without it,
    or without both, what there is is listed. The options say which of the mart's rows, by name or
    id. Prints the definition, the SQL, the rows behind the figure, and the figure worked out from
    them again: exit code 1 if it is another one. Where the demo's database is the only one, it is
    asked.

    \b
    incident-assets explain mart_incident_weekly mttr_median --week 2026-W40 --severity Major
    """
    from incident_assets.models.explain import Unknown, run, write_figures, write_marts

    try:
        if mart is None or metric is None:
            click.echo(write_marts() if mart is None else write_figures(mart))
            return 0
        read_env_file()
        settings = _find_database()
    except (Unknown, SettingError) as error:
        return refuse(error)
    return run(mart, metric, {name: value for name, value in chosen.items() if value}, settings)


def _find_database() -> Settings:
    """Return the settings of the user's database; of the demo's, where that is the only one."""
    settings = read_settings()
    is_default = settings.duckdb_path == Settings.duckdb_path and not settings.lake_catalog
    if not is_default or settings.database.exists():
        return settings
    from incident_assets.demo.place import DATABASE, FOLDER

    demo = Settings(duckdb_path=str(FOLDER / DATABASE))
    if settings.published_copy.exists() or not demo.database.exists():
        return settings
    click.echo(f"There is no {settings.database}, so this is the demo's.", err=True)
    return demo
