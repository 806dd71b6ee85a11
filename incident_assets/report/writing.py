"""The report in its place: one file, which takes the place of a report and of nothing else.

What stands in it is made in `build`.
"""

from incident_assets.report.build import Report, build_report
from incident_assets.report.marts import Marts
from incident_assets.report.page import may_replace
from incident_assets.settings import Settings
from incident_assets.warehouse.file import DatabaseError, read_first_line
from incident_assets.warehouse.private import replace_file


def write_report(settings: Settings, marts: Marts) -> tuple[Report, int]:
    """Write the report on these marts; return it, and the bytes of its page.

    Raises DatabaseError where something else is in its place, or it cannot be written.
    """
    report = build_report(
        marts, settings.find_today(), settings.time_zone, are_masked=settings.masks_people
    )
    path = settings.report_page
    try:
        if not may_replace(path):
            raise DatabaseError(
                f"{path} (INCIDENT_REPORT_PATH) is no report of ours, so it is left as it is: move "
                "it away, or choose another path, then run again"
            )
        return report, replace_file(path, lambda fresh: fresh.write_text(report.html, "utf-8"))
    except OSError as error:
        raise DatabaseError(
            f"cannot write {path} (INCIDENT_REPORT_PATH): {read_first_line(error)}. Make room or "
            "choose another path, then run again; the report of before is kept"
        ) from None
