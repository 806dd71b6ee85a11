"""Which things of an account are meant: its timestamps by their usual names, or by a setting.

An account may rename its timestamps, statuses and priorities. What is computed from them is the
models' business; which settings there are is in `incident_assets.settings`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from incident_assets.api.failures import clean_text
from incident_assets.settings import Settings
from incident_assets.values import SettingError

# Moments of fct_incident and the names that their timestamps usually have, with or without " at".
MOMENTS = {
    "reported": "Reported",
    "accepted": "Accepted",
    "declined": "Declined",
    "merged": "Merged",
    "canceled": "Canceled",
    "resolved": "Resolved",
    "impact_started": "Impact started",
    "identified": "Identified",
    "fixed": "Fixed",
    "documented": "Documented",
    "reviewed": "Reviewed",
    "closed": "Closed",
}
NO_TIMESTAMP = "none"  # what a moment is set to that the account does not record
Known = Sequence[tuple[str, str | None]]  # ids and names, in the account's order


def find_moments(settings: Settings, known: Known) -> dict[str, str | None]:
    """Return the id of the timestamp that stands for each moment, None where there is none.

    `known` are the account's timestamps; without any, nothing can be said, and there are none.
    Moments that INCIDENT_TIMESTAMPS sets to `none` are left out. Raises SettingError if it is no
    mapping, or names a moment or, of those known, a timestamp that is not there.
    """
    named = _read_moments(settings)
    usual: dict[str, str] = {}
    for identifier, name in sorted(known, key=lambda x: (x[1] or "").lower().endswith(" at")):
        usual.setdefault(_read_moment(name or ""), identifier)
    if not known:
        return {}
    return {
        moment: pick_named("INCIDENT_TIMESTAMPS", named[moment], known, "incident_timestamps")
        if moment in named
        else usual.get(moment)
        for moment in MOMENTS
        if named.get(moment) != NO_TIMESTAMP
    }


def say_missing(moments: Iterable[str]) -> str:
    """Return a sentence on moments that no timestamp stands for, '' if there are none."""
    if not (missing := list(moments)):
        return ""
    names = ", ".join(MOMENTS[moment] for moment in missing)
    return (
        f"no timestamp of the account stands for {names}, so what is computed from it is empty: "
        f"say which does in INCIDENT_TIMESTAMPS ({missing[0]}=<name or id>, or "
        f"{missing[0]}={NO_TIMESTAMP} where it is not recorded)"
    )


def _read_moment(name: str) -> str:
    """Return the moment that a name is usual for, however it is spaced; `Reported at`: reported."""
    words = re.sub(r"[\s_]+", " ", name).strip().lower().removesuffix(" at")
    return words.replace("cancelled", "canceled").replace(" ", "_")


def _read_moments(settings: Settings) -> Mapping[str, str]:
    example = "accepted=Acknowledged,fixed=01ABC"
    pairs = split_pairs("INCIDENT_TIMESTAMPS", settings.timestamps, example)
    moments = {_read_moment(moment): name for moment, name in pairs}
    for moment in moments.keys() - MOMENTS:
        raise SettingError(
            f"INCIDENT_TIMESTAMPS has the unknown moment {moment!r}: there are {', '.join(MOMENTS)}"
        )
    return {m: NO_TIMESTAMP if n.lower() == NO_TIMESTAMP else n for m, n in moments.items()}


def pick_named(variable: str, name: str, known: Known, table: str) -> str:
    """Return the id of the one that a setting names, by name or id.

    Raises SettingError with all that there are if it is none of them, or several.
    """
    hits = [id for id, own in known if name == id or name.lower() == (own or "").lower()]
    if len(hits) != 1:
        names = ", ".join(clean_text(f"{own} ({id})") for id, own in known)
        raise SettingError(
            f"{variable} names {name!r}, which is {len(hits) or 'none'} of the account's "
            f"{table}: give the name or the id of one of {names}"
        )
    return hits[0]


def split_pairs(variable: str, text: str, example: str) -> list[tuple[str, str]]:
    """Return the pairs of a setting such as `a=b,c=d`. Raises SettingError if it is none."""
    pairs = []
    for part in filter(str.strip, text.split(",")):
        name, sign, value = (piece.strip() for piece in part.rpartition("="))
        if not (name and sign and value):
            raise SettingError(f"{variable} has {part.strip()!r}: it should look like {example}")
        pairs.append((name, value))
    return pairs
