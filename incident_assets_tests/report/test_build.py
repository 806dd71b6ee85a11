"""The report from made-up marts: what it says, that it is harmless, and that it needs nothing."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from incident_assets.report.build import Report, build_report
from incident_assets.report.numbers import (
    NO_SPREAD,
    WEEK,
    count_incidents,
    find_week,
    follow_duration,
    list_weeks,
    sum_load,
)
from incident_assets.report.words import cut, say_change, say_duration
from incident_assets.warehouse.private import replace_file
from incident_assets_tests.report.marts import (
    AS_OF,
    HOSTILE,
    METRICS,
    describe,
    make_busy_marts,
    make_marts,
)
from incident_assets_tests.report.reading import Page


@pytest.fixture(scope="module")
def busy() -> Report:
    """The report on eighteen months of an ordinary account."""
    return build_report(make_busy_marts(), AS_OF)


def test_a_busy_account_fills_every_section(busy: Report) -> None:
    page = Page(busy.html)
    assert page.tags.count("svg") == 14  # seven plots, each for desk and phone
    assert page.tags.count("details") == 7
    assert {"Critical", "Ada Abiola", "Learning", "No priority"} <= set(page.texts)
    assert busy.counts["weeks"] == 78
    assert busy.markdown.count("](data:image/png;base64,") == 7


def test_it_is_the_same_for_the_same_marts(busy: Report) -> None:
    assert build_report(make_busy_marts(), AS_OF) == busy


def check_that_it_runs_and_fetches_nothing(page: Page) -> None:
    """Look for scripts, handlers and addresses in a page, and for ids that are there twice."""
    assert not {"script", "img", "iframe", "link", "object", "base", "image"} & set(page.tags)
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
            "form-action 'none'") in page.attributes  # fmt: skip
    for name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "xlink:href", "action", "srcset"):
            assert value.startswith("#")
        assert all(target.startswith("#") for target in re.findall(r"url\(['\"]?(.)", value))
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    style = next(text for text in page.texts if "color-scheme" in text)
    assert "url(" not in style and "@import" not in style


def test_a_page_runs_and_fetches_nothing(busy: Report) -> None:
    check_that_it_runs_and_fetches_nothing(Page(busy.html))


@pytest.mark.slow
def test_bad_names_are_texts() -> None:
    # Bad names for everything that has one.
    hostile = build_report(make_busy_marts(HOSTILE, users=300), AS_OF)
    page = Page(hostile.html)
    check_that_it_runs_and_fetches_nothing(page)
    assert {cut(name, 120) for name in HOSTILE} <= set(page.texts)
    assert not [name for name in HOSTILE if name and name in hostile.markdown]
    assert "evil" not in hostile.markdown and "\x00" not in hostile.html
    assert len(hostile.markdown) < 190_000


def test_without_data_it_says_so() -> None:
    report = build_report(make_marts(), AS_OF)
    page = Page(report.html)
    assert "svg" not in page.tags and "table" not in page.tags
    assert "There are no open follow-ups." in page.texts
    assert "There were no incidents in the last 18 months." in report.markdown
    assert "As of 12 August 2026, 00:00 UTC." in page.texts
    assert set(report.counts.values()) == {0}


def test_a_single_incident_is_a_report() -> None:
    marts = make_busy_marts()
    recent = marts.weekly.filter(np.array(marts.weekly["week"].to_pylist()) == date(2026, 8, 10))
    trend = marts.trend.slice(marts.trend.num_rows - 1)
    report = build_report(replace(make_marts(), weekly=recent.slice(0, 1), trend=trend), AS_OF)
    assert report.counts["weeks"] == 1
    Page(report.html)


def test_durations_that_are_all_missing_are_said_to_be() -> None:
    weekly = make_busy_marts().weekly.to_pylist()
    empty = {f"{m}_{part}": v for m in ("mtta", "mttr") for part, v in describe([]).items()}
    report = build_report(make_marts(weekly=[row | empty for row in weekly]), AS_OF)
    assert "No incident has these durations yet." in Page(report.html).texts


@pytest.mark.parametrize("busy", [True, False])
def test_moments_without_a_timestamp_are_named_with_the_setting(busy: bool) -> None:
    rows = [{"moment": m, "is_missing": m != "resolved"} for m in ("fixed", "resolved", "reported")]
    marts = make_busy_marts() if busy else make_marts()
    report = build_report(replace(marts, moments=make_marts(moments=rows).moments), AS_OF)
    (text,) = (text for text in Page(report.html).texts if "INCIDENT_TIMESTAMPS" in text)
    assert "No timestamp of the account stands for Reported, Fixed, so what" in text
    assert "INCIDENT_TIMESTAMPS" in report.markdown


def test_headlines_are_of_the_last_four_whole_weeks_against_the_four_before() -> None:
    # AS_OF is a Wednesday: its week, which began on 10 August, is not over.
    weeks = [date(2026, 8, 10) - timedelta(weeks=n) for n in range(11)]
    empty = {f"{m}_{part}": v for m in METRICS for part, v in describe([]).items()}
    row = {"severity_id": "S", "severity": "Major", "severity_rank": 1}
    weekly = [row | empty | {"week": w, "incidents": 2**n} for n, w in enumerate(weeks)]
    trend = [
        {"week": w, "mtta_incidents": 9, "mtta_median": 60.0 * 2**n, "mttr_incidents": 0}
        for n, w in enumerate(weeks)
    ]
    report = build_report(make_marts(weekly=weekly, trend=trend), AS_OF)
    lines = report.markdown.splitlines()
    assert lines[0] == "13 July 2026 to 9 August 2026, against the 4 weeks before:"
    assert lines[2] == "- **30** Incidents (before: 480 (−94%))"  # 2 + 4 + 8 + 16, 32 + 64 + ...
    assert lines[3] == "- **2.0 min** Median MTTA (before: 32 min (−94%))"
    assert lines[4] == "- **–** Median MTTR (nothing to compare with)"


def test_the_load_is_of_this_week_and_the_twelve_before() -> None:
    weeks = [date(2026, 8, 17) - timedelta(weeks=n) for n in range(16)]
    rows = [
        {"week": w, "user_id": "U", "incidents": 2**n, "lead_assignments": 1, "minutes_total": 1.0}
        for n, w in enumerate(weeks)
    ]
    (load,) = sum_load(make_marts(load=rows).load, AS_OF)
    assert (load.incidents, load.leads) == (2**14 - 2, 13)  # all but the first and the last two


def test_at_most_seventy_eight_weeks_are_shown_and_the_last_is_this_one() -> None:
    rows = [{"week": date(2026, 8, 17) - timedelta(weeks=n)} for n in range(90)]
    weeks = list_weeks(make_marts(weekly=rows).weekly, AS_OF)
    assert (weeks[0], weeks[-1], len(weeks)) == (date(2025, 2, 17), date(2026, 8, 10), 78)


@pytest.mark.parametrize("value", [0.0, -3600.0])
def test_durations_of_nothing_and_less_are_drawn(value: float) -> None:
    figures = describe([value] * 5) | {"week_median": value}
    given = {f"{m}_{part}": v for m in ("mtta", "mttr") for part, v in figures.items()}
    marts = make_busy_marts()
    weekly, trend = ([r | given for r in t.to_pylist()] for t in (marts.weekly, marts.trend))
    page = Page(build_report(make_marts(weekly=weekly, trend=trend), AS_OF).html)
    assert page.texts.count("≤ 1 s") > 4  # ticks, and figures at the ends of lines
    assert any("negative" in text for text in page.texts) == (value < 0)


def test_weeks_without_incidents_count_as_nothing() -> None:
    marts, end = make_busy_marts(), date(2026, 7, 1)
    rows = [[r for r in t.to_pylist() if r["week"] < end] for t in (marts.weekly, marts.trend)]
    weekly, trend = make_marts(weekly=rows[0]).weekly, make_marts(trend=rows[1]).trend
    weeks = list_weeks(weekly, AS_OF)
    assert weeks[-1] == date(2026, 8, 10)
    assert all(counts[-6:] == [0] * 6 for counts in count_incidents(weekly, weeks).counts)
    followed = follow_duration(weekly, trend, "mttr", weeks)
    assert (followed.windows[-1], followed.medians[-1]) == (NO_SPREAD, None)
    assert followed.count == sum(row["mttr_incidents"] for row in rows[0])


def test_durations_are_those_of_the_marts(busy: Report) -> None:
    marts, texts = make_busy_marts(), Page(busy.html).texts
    point = next(r for r in marts.trend.to_pylist() if r["week"] == date(2026, 8, 3))
    stay = marts.stays.to_pylist()[0]
    assert f"**{say_duration(point['mttr_median'])}** Median MTTR" in busy.markdown
    for row, name in ((point, "mtta"), (point, "mttr"), (stay, "seconds")):
        assert {say_duration(row[f"{name}_{x}"]) for x in ("mean", "median", "p90")} <= set(texts)
    assert not [text for text in texts if "estimate" in text.lower()]


def test_severities_come_worst_first_and_those_without_a_rank_last() -> None:
    weekly = make_busy_marts().weekly
    counted = count_incidents(weekly, list_weeks(weekly, AS_OF))
    assert counted.severities == ["Critical", "Major", "Moderate", "Minor", "None yet"]
    assert counted.places == [0, 1, 2, 3] and counted.ranked == 4
    assert sum(map(sum, counted.counts)) == sum(weekly["incidents"].to_pylist())


def test_without_an_sla_there_is_no_word_of_who_is_over_it() -> None:
    rows = [
        row | {"sla_days": None, "open_over_sla": 0} for row in make_busy_marts().ageing.to_pylist()
    ]
    report = build_report(make_marts(ageing=rows), AS_OF)
    assert "no SLA is set (INCIDENT_FOLLOW_UP_SLA sets one)." in report.markdown
    assert "over SLA" not in Page(report.html).texts


def find_colours(report: Report, section: str, family: str) -> set[str]:
    """Return the colours of a family, such as `age`, that the plots of a section have."""
    drawn = report.html.partition(f'<section id="{section}">')[2].partition("</section>")[0]
    return set(re.findall(rf"var\(--({family}-\d|unranked)\)", drawn))


def test_an_age_keeps_its_colour_where_others_are_missing(busy: Report) -> None:
    assert find_colours(busy, "backlog", "age") == {f"age-{n}" for n in range(1, 5)}
    rows = [
        row | {"open": 2 if row["age_bucket"] in ("31-90 d", "91+ d") else 0}
        for row in make_busy_marts().ageing.to_pylist()
    ]
    report = build_report(make_marts(ageing=rows), AS_OF)
    assert find_colours(report, "backlog", "age") == {"age-3", "age-4"}
    assert "0-7 d" not in Page(report.html).texts


def test_a_severity_keeps_its_colour_where_others_have_no_incident(busy: Report) -> None:
    shades = {f"worst-{n}" for n in (1, 2, 4, 5)}
    assert find_colours(busy, "weekly", "worst") == {*shades, "unranked"}
    rows = make_busy_marts().weekly.to_pylist()
    before = [row | {"week": row["week"] - timedelta(weeks=200)} for row in rows]
    kept = [row for row in rows if row["severity"] in ("Major", "Minor")]
    report = build_report(make_marts(weekly=before + kept), AS_OF)
    assert find_colours(report, "weekly", "worst") == {"worst-2", "worst-5"}
    assert "Critical" not in Page(report.html).texts


PALER = "paler bar is a week that is not over"


def test_only_what_is_drawn_is_promised(busy: Report) -> None:
    assert PALER in busy.markdown and "mean of 4 weeks" in Page(busy.html).texts
    rows = make_busy_marts().weekly.to_pylist()
    over = [row for row in rows if row["week"] < date(2026, 8, 10)]
    report = build_report(make_marts(weekly=over), AS_OF)
    assert PALER not in report.markdown and "by severity." in report.markdown
    young = [row for row in rows if row["week"] >= date(2026, 7, 27)]
    trend = [row for row in make_busy_marts().trend.to_pylist() if row["week"] == date(2026, 8, 3)]
    ageing = [row | {"open_over_sla": 0} for row in make_busy_marts().ageing.to_pylist()]
    texts = Page(
        build_report(make_marts(weekly=young, trend=trend, ageing=ageing), AS_OF).html
    ).texts
    assert not {"mean of 4 weeks", "median", "p90", "over SLA"} & set(texts)
    assert "median of a single week" in texts


def test_what_is_missing_is_said_with_how_to_get_it() -> None:
    busy = make_busy_marts()
    none = {"severity_id": "", "severity": "None yet", "severity_rank": None, "mtta_incidents": 0}
    weekly = [row | none for row in busy.weekly.to_pylist()]
    load = [row | {"minutes_total": 0.0} for row in busy.load.to_pylist()]
    report = build_report(make_marts(weekly=weekly, load=load), AS_OF)
    assert "None of them has a severity of the account: once incidents are" in report.markdown
    assert "by severity" not in report.markdown
    assert "MTTA): no incident has the moments for it yet" in report.markdown
    assert "The API gives no workload" in report.markdown


def test_what_comes_and_goes_is_of_the_last_weeks() -> None:
    week = find_week(AS_OF)
    counts = {"opened": 5, "done": 3, "reopened": 1, "handed_over": 0}
    flow = [{"week": week - n * WEEK} | counts for n in (0, 12, 13, 25, 26)]
    raised = {"incidents": 2, "raised": 2, "lowered": 1, "raised_after_median": 90.0}
    changes = [{"week": week - n * WEEK} | raised for n in (12, 25, 26)]
    report = build_report(make_marts(flow=flow, changes=changes), AS_OF)
    said = "10 follow-ups were opened and 6 done, so 4 more are open than before; 2 were opened"
    assert said in report.markdown
    said = "Raised 2 and lowered 1 in the last 13 weeks; 4 and 2 in 26 weeks."
    assert said in report.markdown
    texts = Page(report.html).texts
    assert "2026-08-10" in texts and "2026-02-16" in texts and "2026-02-09" not in texts
    assert texts.count("90 s") == 0 < texts.count("1.5 min")
    none = build_report(make_marts(flow=flow[-1:], changes=changes[-1:]), AS_OF)
    assert "No severity was raised or lowered in the last 26 weeks." in none.markdown
    assert "No follow-up was created or completed in the last 26 weeks." in none.markdown


def test_days_are_said_to_be_those_of_the_time_zone() -> None:
    marts = make_marts(weekly=make_busy_marts().weekly.to_pylist()[-9:])
    page = Page(build_report(marts, AS_OF, "Europe/Berlin").html)
    assert "As of 12 August 2026, 00:00 Europe/Berlin." in page.texts
    assert any("week (Monday, Europe/Berlin)" in text for text in page.texts)


def test_more_severities_than_colours_are_joined() -> None:
    rows = [
        {"week": date(2026, 8, 3), "severity_id": f"S{n}", "severity": f"Level {n}"}
        | {"severity_rank": n, "incidents": 1}
        | {f"{m}_{p}": v for m in ("mtta", "mttr") for p, v in describe([]).items()}
        for n in range(9)
    ]
    texts = Page(build_report(make_marts(weekly=rows), AS_OF).html).texts
    assert {"Level 8", "5 lower"} <= set(texts)


def test_units_suit_the_amount() -> None:
    said = [say_duration(x) for x in (None, 0, 45, 720, 5400, 90000, 259200, -90)]
    assert said == ["–", "0 s", "45 s", "12 min", "1.5 h", "25 h", "3.0 d", "−1.5 min"]
    assert say_change(50, 100, say_duration) == "before: 1.7 min (−50%)"
    assert say_change(100, 100, say_duration) == "before: 1.7 min (no change)"
    assert say_change(None, None, say_duration) == "nothing to compare with"


@pytest.mark.parametrize(
    ("text", "cut_text"), [("障害対応", "障…"), ("abcd", "abcd"), (" a\x00b ", "a b")]
)
def test_texts_are_cut_to_columns(text: str, cut_text: str) -> None:
    assert cut(text, 4) == cut_text


def test_a_failed_write_keeps_the_page_of_before(monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path("report.html")
    assert replace_file(page, lambda fresh: fresh.write_text("old é", "utf-8")) == 6
    assert page.stat().st_mode & 0o777 == 0o600

    def fail(_: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        replace_file(page, lambda fresh: fresh.write_text("new", "utf-8"))
    assert page.read_text() == "old é"
    assert list(Path().glob(".*fresh")) == []


@pytest.mark.slow
def test_nothing_is_left_in_home_and_definitions_stay_light() -> None:
    code = """
import sys
from incident_assets.defs.report import build_report_asset
build_report_asset()
assert not {"matplotlib", "PIL"} & set(sys.modules)
from incident_assets.report.build import build_report
from incident_assets_tests.report.marts import AS_OF, make_busy_marts
assert build_report(make_busy_marts(), AS_OF).counts["weeks"] == 78
assert "matplotlib.pyplot" not in sys.modules
"""
    root = str(Path(__file__).parents[2])
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": root},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert not list(Path(os.environ["HOME"]).rglob("*"))
