"""The sections of what changes from week to week: severities, and follow-ups opened and done.

The others are in `sections`.
"""

from collections.abc import Sequence

from incident_assets.report import figures
from incident_assets.report.numbers import FLOW_WEEKS, LOAD_WEEKS, Flow
from incident_assets.report.sections import Section
from incident_assets.report.words import say_duration


def show_changes(flow: Flow) -> Section:
    """Return the section on severities that were raised and lowered."""
    definition = (
        "By the week of the change, after the first severity, by the ranks that the severities "
        "have now; how soon is since the incident was declared. Changes of before history began "
        "are those that incident updates tell."
    )
    key, title = "changes", "How severities change"
    if not flow.sum("raised") + flow.sum("lowered"):
        nothing = f"No severity was raised or lowered in the last {FLOW_WEEKS} weeks."
        return Section(key, title, nothing, definition)
    raised, lowered = (flow.sum(column, LOAD_WEEKS) for column in ("raised", "lowered"))
    return Section(
        key,
        title,
        f"Raised {raised:,} and lowered {lowered:,} in the last {LOAD_WEEKS} weeks; "
        f"{flow.sum('raised'):,} and {flow.sum('lowered'):,} in {FLOW_WEEKS} weeks.",
        definition,
        lambda width: figures.plot_flow(flow, "raised", "lowered", width),
        ["Week of", "Incidents", "Raised", "after (median)", "Lowered", "after (median)"],
        _list_weeks(
            flow,
            ["incidents", "raised", "raised_after_median", "lowered", "lowered_after_median"],
        ),
    )


def show_flow(flow: Flow) -> Section:
    """Return the section on follow-ups that come and get done."""
    definition = (
        "By the week in which a follow-up of a counted incident was created, completed, opened "
        "again after that, or given from one user to another. The last two are known since history "
        "is kept. Deleted ones and those not to be done are left out."
    )
    key, title = "flow", "Whether follow-ups get done"
    opened, done = (flow.sum(column, LOAD_WEEKS) for column in ("opened", "done"))
    if not any(map(flow.sum, ("opened", "done", "reopened", "handed_over"))):
        nothing = f"No follow-up was created or completed in the last {FLOW_WEEKS} weeks."
        return Section(key, title, nothing, definition)
    grown = f"{abs(opened - done):,} {'more' if opened > done else 'fewer'} are open than before"
    return Section(
        key,
        title,
        f"In the last {LOAD_WEEKS} weeks {opened:,} follow-ups were opened and {done:,} done, so "
        f"{grown if opened != done else 'as many are open as before'}; "
        f"{flow.sum('reopened', LOAD_WEEKS):,} were opened again, and "
        f"{flow.sum('handed_over', LOAD_WEEKS):,} handed over.",
        definition,
        lambda width: figures.plot_flow(flow, "opened", "done", width),
        ["Week of", "Opened", "Done", "Opened again", "Handed over"],
        _list_weeks(flow, ["opened", "done", "reopened", "handed_over"]),
    )


def _list_weeks(flow: Flow, columns: Sequence[str]) -> list[list[str]]:
    """Return the weeks of a flow as rows of texts, the last one first; medians are durations."""
    rows = zip(flow.weeks, *(flow.columns[column] for column in columns), strict=True)
    return [
        [
            f"{week:%Y-%m-%d}",
            *(
                say_duration(cell) if column.endswith("_median") else f"{cell:,}"
                for column, cell in zip(columns, cells, strict=True)
            ),
        ]
        for week, *cells in rows
    ][::-1]
