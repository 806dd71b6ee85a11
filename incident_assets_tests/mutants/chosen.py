"""The mutations chosen by hand: bugs that would cost rows, secrets, nights or trust.

Each is a text of a file that is there exactly once, what stands there instead, and the tests that
have to notice. Where one is not noticed, a test is missing; the mutation stays as it is.
"""

from dataclasses import dataclass

from incident_assets_tests.mutants.trying import PACKAGE, ROOT, BadMutation, Mutation


@dataclass(frozen=True)
class Chosen:
    """A bug in a file of the package: `new` stands where `old` did; `test` has to fail."""

    says: str
    file: str
    old: str
    new: str
    test: str

    def build(self) -> Mutation:
        """Return the mutation. Raises BadMutation if its text is not there once."""
        path = f"{PACKAGE}/{self.file}"
        source = (ROOT / path).read_text()
        if (count := source.count(self.old)) != 1:
            raise BadMutation(f"{self.says!r}: {self.old!r} is {count} times in {path}, not once")
        line = source[: source.index(self.old)].count("\n") + 1
        return Mutation(path, line, self.says, source.replace(self.old, self.new), [self.test])


CHOSEN = (
    # What a sync asks for.
    Chosen(
        "the watermark has no overlap",
        "sync/plan.py",
        "EPOCH) - changes.overlap",
        "EPOCH)",
        "sync/test_changes.py::test_an_hour_before_the_watermark_is_asked_for_once_more",
    ),
    Chosen(
        "categories of the account's own are not asked for",
        "sync/plan.py",
        "return [*STATUS_CATEGORIES, *sorted(found.difference(STATUS_CATEGORIES))]",
        "return [*STATUS_CATEGORIES]",
        "sync/test_listings.py::test_incidents_of_an_unknown_category_are_listed",
    ),
    Chosen(
        "variants are not walked again for rows that moved between them",
        "sync/plan.py",
        "return listing.name in self._tables and bool(",
        "return False and bool(",
        "sync/test_listings.py::test_a_row_that_moves_between_variants_is_not_deleted",
    ),
    Chosen(
        "a second page that is not there is taken for an incident that is gone",
        "sync/fetch.py",
        'GONE_STATUSES and "after" not in asked:',
        "GONE_STATUSES:",
        "sync/test_apart.py::test_a_second_page_that_is_not_there_is_a_failure",
    ),
    Chosen(
        "another API host is accepted",
        "sync/account.py",
        "if stored.host != host or (",
        "if (",
        "api/test_failures.py::test_another_host_is_another_account_though_the_dashboard_is_the_same",
    ),
    Chosen(
        "where the identity is silent, nobody looks whose rows they are",
        "sync/stages.py",
        "if not self.account.is_proven:",
        "if False:",
        "sync/test_account.py::test_a_silent_identity_lets_no_other_account_in",
    ),
    # What the API may do to it.
    Chosen(
        "a wait for the rate limit goes beyond the deadline",
        "api/adapter.py",
        "self._check_deadline(seconds)",
        "self._check_deadline()",
        "api/test_limits.py::test_a_wait_beyond_the_deadline_is_not_begun",
    ),
    Chosen(
        "a header is waited for however long it says",
        "api/adapter.py",
        "if seconds > LONGEST_WAIT:",
        "if False:",
        "api/test_limits.py::test_a_limit_of_a_day_is_not_waited_for",
    ),
    Chosen(
        "a body has no limit",
        "api/adapter.py",
        "if size > self.limit * MEGABYTE:",
        "if False:",
        "api/test_limits.py::test_a_body_beyond_its_limit_is_not_decoded",
    ),
    Chosen(
        "a 403 with Retry-After is taken for a missing permission",
        "api/retries.py",
        "return limited or response",
        "return response",
        "api/test_limits.py::test_a_403_that_says_when_to_come_back_is_a_limit",
    ),
    Chosen(
        "503 and above are not retried",
        "api/retries.py",
        "range(500, 600)",
        "range(500, 503)",
        "api/test_failures.py::test_what_passes_is_retried",
    ),
    # What becomes of a value.
    Chosen(
        "a new field on a later page is ignored",
        "api/rows.py",
        "forbid_unknown_fields=True",
        "forbid_unknown_fields=False",
        "sync/test_sync.py::test_fields_that_appear_on_later_pages_are_columns",
    ),
    Chosen(
        "half characters are not looked for",
        "api/cells.py",
        "(dump_json(value), True) if is_storable(value) else (None, False)",
        "dump_json(value), True",
        "api/test_bad_data.py::test_half_a_character_anywhere_is_kept_as_escaped_text",
    ),
    Chosen(
        "numbers of 17 digits are taken to be exact",
        "api/exact_json.py",
        "EXACT_DIGITS = 15",
        "EXACT_DIGITS = 17",
        "api/test_rows.py::test_a_double_that_would_be_rounded_is_rescued_on_both_ways",
    ),
    # What a listing may take away.
    Chosen(
        "no listing is ever held",
        "sync/loss.py",
        "if missing and (recent.share > LARGEST_SHARE or at_its_end):",
        "if False:",
        "sync/test_loss.py::test_a_listing_that_takes_most_of_a_table_away_is_held",
    ),
    Chosen(
        "a listing may take nine tenths of a table away",
        "sync/loss.py",
        "LARGEST_SHARE = 0.5",
        "LARGEST_SHARE = 0.9",
        "sync/test_loss.py::test_losses_of_seven_days_count_together",
    ),
    Chosen(
        "a loss that was accepted is held all the same",
        "sync/loss.py",
        "if accepted:",
        "if False:",
        "sync/test_loss.py::test_a_full_refresh_drops_no_more_than_a_sync_may_mark",
    ),
    Chosen(
        "a small table is emptied at once",
        "sync/loss.py",
        "if not (is_small and _was_held_alike(connection, name, at, fingerprint)):",
        "if not is_small:",
        "sync/test_loss.py::test_a_small_table_is_held_once",
    ),
    Chosen(
        "a shortfall is believed at once",
        "sync/loss.py",
        "[name, at - AN_HOUR],",
        "[name, at],",
        "sync/test_loss.py::test_a_shortfall_that_stays_is_the_keys_view",
    ),
    Chosen(
        "what refreshes have dropped is forgotten",
        "sync/loss.py",
        "Past(since or start, int(dropped or 0), concluded, path)",
        "Past(since or start, 0, concluded, path)",
        "sync/test_loss.py::test_what_refreshes_dropped_counts_for_seven_days",
    ),
    Chosen(
        "a key that lost a role marks what it no longer sees",
        "sync/loss.py",
        "if lost_roles and missing:",
        "if False:",
        "sync/test_account.py::test_a_key_that_lost_a_role_marks_nothing",
    ),
    Chosen(
        "replaced rows count as gone",
        "sync/loss.py",
        "sum(dropped) FILTER",
        "sum(changed) FILTER",
        "checks/test_per_resource.py::test_rows_that_were_only_changed_or_came_are_no_drop",
    ),
    Chosen(
        "a refresh drops the rows of a listing that is held",
        "warehouse/merging.py",
        "{lacking if keeps else ''}",
        "",
        "sync/test_loss.py::test_a_full_refresh_drops_no_more_than_a_sync_may_mark",
    ),
    # What is kept, and ends in time.
    Chosen(
        "an interrupt that a library has wrapped is a failure like any other",
        "warehouse/interrupts.py",
        "error = error.__cause__ or error.__context__",
        "error = None",
        "sync/test_apart.py::test_an_interrupt_and_a_full_disk_are_no_failure_of_a_listing",
    ),
    Chosen(
        "a database that is no copy of this one is published over",
        "warehouse/publishing.py",
        "and (is_written or not _is_copy(connection, place)):",
        "and is_written:",
        "warehouse/test_publishing.py::test_only_a_copy_of_this_database_is_replaced",
    ),
    Chosen(
        "after a loss, the copy of before is not kept",
        "defs/publish.py",
        "keep_previous=lost",
        "keep_previous=False",
        "sync/test_loss.py::test_a_loss_that_was_taken_can_be_taken_back",
    ),
    # What people are told.
    Chosen(
        "a warning that becomes an error is not told",
        "defs/alerts.py",
        "if now == before:",
        "if (now is None) == (before is None):",
        "defs/test_alerts.py::test_each_change_of_a_check_is_told_once",
    ),
    Chosen(
        "the live sync runs hourly",
        "defs/schedules.py",
        '"sync_live": "*/15 * * * *"',
        '"sync_live": "0 * * * *"',
        "test_commands.py::test_pages_are_what_the_code_says",
    ),
    Chosen(
        "the report's four weeks end with one that is not over",
        "report/headlines.py",
        "end = find_week(today) - WEEK",
        "end = find_week(today)",
        "report/test_build.py::test_headlines_are_of_the_last_four_whole_weeks_against_the_four_before",
    ),
    Chosen(
        "the report's weeks and those before are swapped",
        "report/headlines.py",
        "for last in (end, end - WINDOW * WEEK)",
        "for last in (end - WINDOW * WEEK, end)",
        "report/test_build.py::test_headlines_are_of_the_last_four_whole_weeks_against_the_four_before",
    ),
)
