"""What a status category means, for all who ask: the API's eight, in the order of its own list.

A new category is a row here; syncs, models and report follow. Which category a status has, and the
words of the docs, are elsewhere.
"""

from typing import NamedTuple


class Category(NamedTuple):
    """A category and what holds for an incident whose status is of it.

    `is_taken_on`: somebody has acknowledged it. `is_active`: it can be posted on without being
    changed itself. `is_live`: it is being worked on. `is_over`: work has ended, and being live
    once more is a reopening. `is_counted`: figures count it; the others were called off.
    """

    name: str
    is_taken_on: bool = True
    is_active: bool = False
    is_live: bool = False
    is_over: bool = False
    is_counted: bool = True


CATEGORIES = (
    Category("triage", is_taken_on=False, is_active=True),
    Category("live", is_active=True, is_live=True),
    Category("learning", is_over=True),
    Category("paused", is_active=True),
    Category("closed", is_over=True),
    Category("declined", is_counted=False),
    Category("canceled", is_counted=False),
    Category("merged", is_counted=False),
)
STATUS_CATEGORIES = tuple(category.name for category in CATEGORIES)
# A category that is not known may be active.
IDLE_CATEGORIES = tuple(category.name for category in CATEGORIES if not category.is_active)
