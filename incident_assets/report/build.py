"""The report as a whole: marts in; one HTML page, and the plots as Markdown, out.

What the sections say is in `sections` and `flow`; how the page is written, in `page`.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from incident_assets.report import flow, numbers, sections
from incident_assets.report.headlines import count_headlines
from incident_assets.report.marts import Marts
from incident_assets.report.page import write_page
from incident_assets.report.render import draw_png, draw_svg, prepare_matplotlib
from incident_assets.report.sections import METRICS, Section
from incident_assets.report.words import say_day

WIDTHS = {"desk": 880, "phone": 343}  # px; a phone has 375 with the margins


@dataclass(frozen=True)
class Report:
    """The page, the plots as Markdown with PNG images, and what was counted."""

    html: str
    markdown: str
    counts: Mapping[str, int]


def build_report(
    marts: Marts, today: date, time_zone: str = "UTC", are_masked: bool = False
) -> Report:
    """Return the report on these marts, the same for the same input.

    It is as of the day to which the follow-ups were aged, or of `today` if there are none; days are
    those of the time zone, by its name. Where people `are_masked`, responders are numbered.
    """
    today = max(marts.ageing["as_of"].to_pylist(), default=today)
    weeks = numbers.list_weeks(marts.weekly, today)
    weekly = numbers.count_incidents(marts.weekly, weeks)
    trends = {m: numbers.follow_duration(marts.weekly, marts.trend, m, weeks) for m in METRICS}
    stays = numbers.time_stays(marts.stays)
    load = numbers.sum_load(marts.load, today, are_masked)
    backlog = numbers.age_follow_ups(marts.ageing)
    period, tiles = count_headlines(weekly, trends, *backlog, today)
    shown = [
        sections.show_weekly(weekly, time_zone),
        sections.show_trends(trends, numbers.list_missing(marts.moments)),
        sections.show_stays(stays),
        flow.show_changes(numbers.follow_flow(marts.changes, today)),
        sections.show_load(load),
        sections.show_backlog(*backlog),
        flow.show_flow(numbers.follow_flow(marts.flow, today)),
    ]
    with prepare_matplotlib():
        drawn = [_draw(section) for section in shown]
    headlines = "\n".join(f"- **{tile.value}** {tile.label} ({tile.note})" for tile in tiles)
    return Report(
        write_page(
            f"As of {say_day(today)}, 00:00 {time_zone}.",
            period,
            tiles,
            [(section, plots) for section, (plots, _) in zip(shown, drawn, strict=True)],
        ),
        f"{period}:\n\n{headlines}\n\n" + "\n\n".join(image for _, image in drawn),
        {
            "incidents": sum(map(sum, weekly.counts)),
            "weeks": len(weeks),
            "responders": len(load),
            "open_follow_ups": sum(sum(b.open) for b in backlog[1]),
        },
    )


def _draw(section: Section) -> tuple[dict[str, str], str]:
    text = f"### {section.title}\n\n{section.finding}"
    if not section.plot:
        return {}, text
    drawn = {name: section.plot(width) for name, width in WIDTHS.items()}
    plots = {n: draw_svg(f, f"{section.key}-{n}", section.title) for n, f in drawn.items()}
    data = base64.b64encode(draw_png(drawn["desk"])).decode()
    return plots, f"{text}\n\n![{section.title}](data:image/png;base64,{data})"
