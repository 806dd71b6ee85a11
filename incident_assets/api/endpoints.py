"""THE table: one row per API resource, from which everything else follows.

The dlt configuration, the assets and their column schemas, the jobs, the demo's printout, the
docs and the tests are all made from `ENDPOINTS`; a new resource is one more row here. Facts about
the API belong here (paths, page sizes, parameters, columns); how they are used does not. Rows that
somebody adds without touching the package are `outside`'s.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from incident_assets.api.categories import STATUS_CATEGORIES

# Seconds between two syncs of a group, as the schedules have it.
CADENCES = {"live": 15 * 60, "reference": 60 * 60}

ColumnType = Literal["text", "bigint", "double", "bool", "timestamp", "json"]
Group = Literal["live", "reference"]


@dataclass(frozen=True)
class Column:
    """A pinned column: its name is the API's field, its type is dlt's name for the type."""

    name: str
    type: ColumnType
    description: str
    nullable: bool = True


@dataclass(frozen=True)
class Changes:
    """How a version of the API is asked for what changed since a moment.

    `overlap` is asked for once more: rows are stamped before they are committed, and clocks differ.
    `by_date` where the parameter takes days and no times; whose days they are is not said.
    """

    parameter: str
    overlap: timedelta
    by_date: bool = False


@dataclass(frozen=True)
class Way:
    """How a resource is asked for in one version of the API.

    `page_size` is None where the API does not paginate. `params` go with every request.
    `variants` are walked one after the other, each with its own parameters on top, and merged by
    id: for filters that take one value at a time. `lacks` are the columns that this version does
    not have: what they hold stays, and they are no part of the comparison of rows. `changes` is
    None where it cannot be asked for what changed.
    """

    path: str
    page_size: int | None = None
    params: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    variants: tuple[Mapping[str, str], ...] = ({},)
    lacks: tuple[str, ...] = ()
    changes: Changes | None = None

    @property
    def version(self) -> str:
        """Version of the API, such as v2."""
        return self.path.split("/")[1]


@dataclass(frozen=True)
class Endpoint:
    """A list endpoint and the raw table it becomes.

    `ways` are the API's versions of it, the newest first. The newest is asked; the next one only
    where it is not there.

    The checks know from here which columns the API may leave empty (`optional`), which resource
    the id at a path belongs to (`references`), and which values a path can have (`enums`). A path
    is a column, with `.field` into an object and `[]` over an array.

    `personal` are text columns that are a person's name, address or chat id; where there are any,
    rows are people. `needed` are texts and objects that models cannot do without. `scrubbed` are
    texts that the account may scrub, so that what they were is to be known no more. `every` are
    the seconds between two syncs, where they are not those of the group.
    """

    name: str
    ways: tuple[Way, ...]
    group: Group
    grain: str
    description: str
    columns: tuple[Column, ...]
    optional: tuple[str, ...] = ()
    references: Mapping[str, str] = field(default_factory=dict)
    enums: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    personal: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()
    scrubbed: tuple[str, ...] = ()
    every: int | None = None

    @property
    def newest(self) -> Way:
        """How it is asked for where the API is up to date."""
        return self.ways[0]

    @property
    def cadence(self) -> int:
        """Seconds between two syncs, as scheduled."""
        return self.every or CADENCES[self.group]


def text(name: str, description: str) -> Column:
    return Column(name, "text", description)


def whole(name: str, description: str) -> Column:
    return Column(name, "bigint", description)


def decimal(name: str, description: str) -> Column:
    return Column(name, "double", description)


def flag(name: str, description: str) -> Column:
    return Column(name, "bool", description)


def instant(name: str, description: str) -> Column:
    return Column(name, "timestamp", f"{description} (UTC)")


def nested(name: str, description: str) -> Column:
    return Column(name, "json", f"{description}, as JSON")


ID = Column("id", "text", "Identifier, unique in the account", nullable=False)
CREATED = instant("created_at", "When it was created")
UPDATED = instant("updated_at", "When it was last changed")

# Written by the loader, not by the API. `_valid_from` and `_dlt_load_id` complete every row.
LOADER_COLUMNS = (
    Column("_rescued", "json", "Values that could not stand in their own column, by field name"),
    instant("_deleted_at", "When a full listing first missed this row, empty while it is live"),
    instant("_valid_from", "Since when the row is as it is, by the sync that saw it first"),
    Column("_dlt_load_id", "text", "Load package that wrote the row as it is", nullable=False),
)

# Of incidents; without it the API leaves some categories out.
CATEGORY_FILTER = "status_category[one_of]"
# The API leaves all but the first two modes out of its lists unless they are asked for.
INCIDENT_MODES = ("standard", "retrospective", "test", "tutorial")
# Actions and follow-ups: no filter means standard and retrospective; the rest one at a time.
MODES_ONE_AT_A_TIME: tuple[Mapping[str, str], ...] = (
    {},
    {"incident_mode": "test"},
    {"incident_mode": "tutorial"},
    {"incident_mode": "stream"},
)

SINCE_A_DAY = Changes("updated_at[gte]", timedelta(hours=1), by_date=True)
SINCE_A_MOMENT = Changes("updated_at[gte]", timedelta(minutes=10))
CATALOG_TYPES_SINCE_V3 = (
    "engine_resource_type",
    "use_name_as_identifier",
    "is_team_type",
    "owning_team_ids",
)

TASK_STATUSES = ("outstanding", "completed", "deleted", "not_doing")
ISSUE_TRACKERS = (
    "asana",
    "azure_devops",
    "click_up",
    "freshservice",
    "github",
    "gitlab",
    "jira",
    "jira_server",
    "linear",
    "notion",
    "salesforce",
    "service_now",
    "shortcut",
)
TASK_REFERENCES = {"incident_id": "incidents", "assignee.id": "users", "creator.user.id": "users"}

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        name="actions",
        ways=(
            Way("/v3/actions", 250, variants=MODES_ONE_AT_A_TIME, changes=SINCE_A_MOMENT),
            Way("/v2/actions", variants=MODES_ONE_AT_A_TIME),
        ),
        group="live",
        grain="one row per action",
        description="Things to do while an incident is going on.",
        optional=("assignee", "completed_at"),
        references=TASK_REFERENCES,
        enums={"status": TASK_STATUSES},
        needed=("incident_id", "status"),
        columns=(
            ID,
            text("incident_id", "Incident that the action belongs to"),
            text("status", "outstanding, completed, not_doing or deleted (a soft delete)"),
            text("description", "What has to be done"),
            nested("assignee", "User who does it"),
            nested("creator", "User, API key, workflow or alert that created it"),
            CREATED,
            UPDATED,
            instant("completed_at", "When it was completed"),
        ),
    ),
    Endpoint(
        name="catalog_types",
        ways=(
            Way("/v3/catalog_types", lacks=("semantic_type",)),
            Way("/v2/catalog_types", lacks=CATALOG_TYPES_SINCE_V3),
        ),
        group="reference",
        grain="one row per catalog type",
        description="Kinds of thing in the catalog, such as services and teams.",
        optional=(
            "dynamic_resource_parameter",
            "estimated_count",
            "is_team_type",
            "last_synced_at",
            "owning_team_ids",
            "registry_type",
            "required_integrations",
            "source_repo_url",
        ),
        columns=(
            ID,
            text("name", "Name that people read"),
            text("type_name", "Name that other definitions refer to, never changed"),
            text("description", "What entries of this type stand for"),
            text("semantic_type", "No longer used by the API"),
            text("icon", "Icon in the product"),
            text("color", "Colour in the product"),
            flag("ranked", "Whether the order of entries carries meaning"),
            flag("is_editable", "False where an integration owns the type"),
            nested("schema", "Version and attributes of the entries"),
            nested("annotations", "Free-form labels"),
            nested("categories", "Categories that the type is listed under"),
            nested("required_integrations", "Integrations that the type cannot do without"),
            text("registry_type", "Registry that the type is synced from"),
            text("dynamic_resource_parameter", "Parameter that identifies a dynamic type"),
            text("source_repo_url", "Repository that the type is managed in"),
            text("engine_resource_type", "Name of the type in expressions"),
            flag("use_name_as_identifier", "Whether an entry can be referred to by its name"),
            flag("is_team_type", "Whether the entries are the account's teams"),
            nested("owning_team_ids", "Teams that own it"),
            whole("estimated_count", "About how many entries there are"),
            instant("last_synced_at", "When entries were last synced"),
            CREATED,
            UPDATED,
        ),
    ),
    Endpoint(
        name="custom_fields",
        ways=(Way("/v2/custom_fields"),),
        group="reference",
        grain="one row per custom field",
        description="Fields that the account has added to its incidents.",
        optional=(
            "catalog_type_id",
            "filter_by",
            "fixed_filter",
            "group_by_catalog_attribute_id",
            "helptext_catalog_attribute_id",
        ),
        references={"catalog_type_id": "catalog_types"},
        enums={"field_type": ("single_select", "multi_select", "text", "link", "numeric")},
        columns=(
            ID,
            text("name", "Name that people read"),
            text("description", "What the field is for"),
            text("field_type", "single_select, multi_select, text, link or numeric"),
            text("catalog_type_id", "Catalog type that the options come from"),
            nested("filter_by", "How another field narrows the options"),
            nested("fixed_filter", "Filter that is always applied to the options"),
            text("group_by_catalog_attribute_id", "Catalog attribute that groups the options"),
            text("helptext_catalog_attribute_id", "Catalog attribute that explains the options"),
            CREATED,
            UPDATED,
        ),
    ),
    Endpoint(
        name="follow_ups",
        ways=(
            Way("/v3/follow_ups", 250, variants=MODES_ONE_AT_A_TIME, changes=SINCE_A_MOMENT),
            Way("/v2/follow_ups", variants=MODES_ONE_AT_A_TIME, lacks=("category",)),
        ),
        group="live",
        grain="one row per follow-up",
        description="Work that an incident leaves behind.",
        optional=(
            "assignee",
            "assignee_team",
            "category",
            "completed_at",
            "description",
            "external_issue_reference",
            "priority",
        ),
        references=TASK_REFERENCES,
        enums={
            "status": TASK_STATUSES,
            "external_issue_reference.provider": ISSUE_TRACKERS,
        },
        needed=("incident_id", "status"),
        columns=(
            ID,
            text("incident_id", "Incident that the follow-up belongs to"),
            text("title", "What has to be done, in a line"),
            text("description", "What has to be done, in full"),
            text("status", "outstanding, completed, not_doing or deleted (a soft delete)"),
            nested("category", "Category with its rank"),
            nested("priority", "Priority with its rank"),
            nested("assignee", "User who does it"),
            nested("assignee_team", "Team that does it"),
            nested("creator", "User, API key, workflow or alert that created it"),
            nested("labels", "Labels"),
            nested("external_issue_reference", "Issue in another tracker"),
            CREATED,
            UPDATED,
            instant("completed_at", "When it was completed"),
        ),
    ),
    Endpoint(
        name="incident_roles",
        ways=(Way("/v2/incident_roles", lacks=("required",)), Way("/v1/incident_roles")),
        group="reference",
        grain="one row per incident role",
        description="Parts that people play in an incident.",
        optional=("required",),
        enums={"role_type": ("lead", "reporter", "custom")},
        needed=("role_type",),
        columns=(
            ID,
            text("name", "Name that people read"),
            text("shortform", "Short name for chat commands"),
            text("description", "What the role is for"),
            text("instructions", "What its holder is told to do"),
            text("role_type", "lead, reporter or custom"),
            flag("required", "No longer used by the API"),
            CREATED,
            UPDATED,
        ),
    ),
    Endpoint(
        name="incident_timestamps",
        ways=(Way("/v2/incident_timestamps"),),
        group="reference",
        grain="one row per timestamp definition",
        description="Moments of an incident that the account records, such as Reported or Fixed.",
        needed=("name",),
        columns=(
            ID,
            text("name", "Name that people read; an account may rename it"),
            whole("rank", "Order in which the moments are shown"),
        ),
    ),
    Endpoint(
        name="incident_updates",
        ways=(Way("/v2/incident_updates", page_size=250),),
        group="live",
        grain="one row per update of an incident",
        description="Messages posted on incidents, with the status and severity they set. A text "
        "can be edited or scrubbed later, which only a full listing shows.",
        optional=("merged_into_incident_id", "message", "new_severity"),
        references={
            "incident_id": "incidents",
            "merged_into_incident_id": "incidents",
            "new_incident_status.id": "incident_statuses",
            "new_severity.id": "severities",
            "updater.user.id": "users",
        },
        enums={"new_incident_status.category": STATUS_CATEGORIES},
        needed=("incident_id", "new_incident_status"),
        scrubbed=("message",),
        columns=(
            ID,
            text("incident_id", "Incident that was updated"),
            text("message", "What was said"),
            nested("new_incident_status", "Status after the update"),
            nested("new_severity", "Severity after the update"),
            nested("updater", "User, API key, workflow or alert that posted it"),
            text("merged_into_incident_id", "Incident that this one was merged into"),
            CREATED,
        ),
    ),
    Endpoint(
        name="incident_statuses",
        ways=(Way("/v1/incident_statuses"),),
        group="reference",
        grain="one row per incident status",
        description="Statuses that an incident moves through.",
        enums={"category": STATUS_CATEGORIES},
        needed=("name", "category"),
        columns=(
            ID,
            text("name", "Name that people read; an account may rename it"),
            text("category", "One of the API's eight categories, such as triage or live"),
            text("description", "What the status means"),
            whole("rank", "Order of the statuses, may be negative"),
            CREATED,
            UPDATED,
        ),
    ),
    Endpoint(
        name="workflows",
        ways=(Way("/v2/workflows"),),
        group="reference",
        grain="one row per workflow",
        description="Automation that runs on incidents.",
        optional=(
            "auto_run_mode",  # not in August 2026
            "delay",
            "folder",
            "owning_team_ids",
            "runs_from",
            "shortform",
        ),
        enums={
            "state": ("active", "disabled", "draft", "error"),
            "runs_on_incidents": ("newly_created", "newly_created_and_active"),
            "private_incident_scope": ("all", "owning_teams", "none"),
            "auto_run_mode": ("run_automatically", "confirm_before_running"),
        },
        columns=(
            ID,
            text("name", "Name that people read"),
            text("state", "active, disabled, draft or error"),
            whole("version", "Revision"),
            nested("trigger", "Event that starts it"),
            nested("steps", "What it does, in order"),
            nested("condition_groups", "Conditions under which it runs"),
            nested("expressions", "Values that conditions and steps use"),
            nested("once_for", "References that it runs only once for"),
            text("runs_on_incidents", "newly_created or newly_created_and_active"),
            nested("runs_on_incident_modes", "Incident modes that it runs on"),
            text("auto_run_mode", "run_automatically or confirm_before_running"),
            instant("runs_from", "Incidents created before this are left alone"),
            flag("continue_on_step_error", "Whether a failed step stops it"),
            nested("delay", "How long it waits before it runs"),
            text("folder", "Folder it is kept in"),
            text("shortform", "Short name for starting it by hand"),
            nested("owning_team_ids", "Teams that own it"),
            text("private_incident_scope", "Private incidents it runs on: all, owning_teams, none"),
            flag("include_private_incidents", "Older form of private_incident_scope"),
            flag("include_private_escalations", "Whether it runs on private escalations"),
        ),
    ),
    Endpoint(
        name="users",
        ways=(Way("/v2/users", page_size=1000, params={"include_inactive": "true"}),),
        group="reference",
        grain="one row per user, leavers included",
        description="People of the account.",
        optional=("email", "slack_user_id"),
        personal=("name", "email", "slack_user_id"),
        columns=(
            ID,
            text("name", "Full name"),
            text("email", "Address"),
            text("slack_user_id", "Id in the chat workspace"),
            text("role", "No longer kept up to date by the API"),
            nested("base_role", "Role that every permission starts from"),
            nested("custom_roles", "Roles granted on top"),
            nested("seats", "Paid seats that the user takes"),
            flag("is_active", "False for leavers and for people who have not joined yet"),
        ),
    ),
    Endpoint(
        name="severities",
        ways=(Way("/v1/severities"),),
        group="reference",
        grain="one row per severity",
        description="How bad an incident can be.",
        columns=(
            ID,
            text("name", "Name that people read; an account may rename it"),
            text("description", "When to choose it"),
            whole("rank", "Higher is more severe"),
            CREATED,
            UPDATED,
        ),
    ),
    Endpoint(
        name="schedules",
        # Any more and the API leaves next_shifts out.
        ways=(Way("/v2/schedules", page_size=25),),
        group="reference",
        grain="one row per on-call schedule",
        description="Who is on call, now and next.",
        optional=("config", "current_shifts", "holidays_public_config", "next_shifts"),
        references={"current_shifts[].user.id": "users", "next_shifts[].user.id": "users"},
        columns=(
            ID,
            text("name", "Name that people read"),
            text("timezone", "Time zone that shifts are planned in"),
            nested("config", "Rotations with their layers, users and handovers"),
            nested("current_shifts", "Shifts that are going on"),
            nested("next_shifts", "Shifts after the next handover"),
            nested("holidays_public_config", "Countries whose public holidays are shown"),
            nested("annotations", "Free-form labels"),
            nested("team_ids", "Teams that own it"),
            text("permalink", "Address in the product"),
            CREATED,
            UPDATED,
        ),
    ),
    Endpoint(
        name="incidents",
        ways=(
            Way(
                "/v2/incidents",
                page_size=250,
                params={
                    "mode[one_of]": INCIDENT_MODES,
                    CATEGORY_FILTER: STATUS_CATEGORIES,
                },
                changes=SINCE_A_DAY,
            ),
        ),
        group="live",
        grain="one row per incident, of every mode and status category",
        description="Incidents, from triage to closed.",
        optional=(
            "call_url",
            "debriefs",
            "duration_metrics",
            "external_issue_reference",
            "has_debrief",
            "incident_timestamp_values",
            "incident_type",
            "last_activity_at",  # not in August 2026
            "ms_teams_channel_url",
            "permalink",
            "postmortem_document_ids",
            "postmortem_document_url",
            "severity",
            "slack_channel_name",
            "slack_channel_url",
            "summary",
            "team_ids",  # not in August 2026
            "workload_minutes_late",
            "workload_minutes_sleeping",
            "workload_minutes_total",
            "workload_minutes_working",
        ),
        references={
            "severity.id": "severities",
            "incident_status.id": "incident_statuses",
            "incident_role_assignments[].role.id": "incident_roles",
            "incident_role_assignments[].assignee.id": "users",
            "custom_field_entries[].custom_field.id": "custom_fields",
            "creator.user.id": "users",
        },
        enums={
            "mode": INCIDENT_MODES,
            "visibility": ("public", "private"),
            "external_issue_reference.provider": ISSUE_TRACKERS,
            "incident_status.category": STATUS_CATEGORIES,
        },
        scrubbed=("summary",),
        needed=(
            "mode",
            "incident_status",
            "incident_role_assignments",
            "incident_timestamp_values",
        ),
        columns=(
            ID,
            text("reference", "Short reference such as INC-123"),
            text("name", "What is wrong, in a line"),
            text("summary", "What is wrong, in full"),
            text("mode", "standard, retrospective, test or tutorial"),
            text("visibility", "public or private"),
            nested("incident_status", "Status, with its category"),
            nested("severity", "Severity; absent in triage"),
            nested("incident_type", "Type"),
            nested("creator", "User, API key, workflow or alert that declared it"),
            nested("incident_role_assignments", "Who holds which role"),
            nested("custom_field_entries", "Values of the account's custom fields"),
            nested("incident_timestamp_values", "When each recorded moment happened"),
            nested(
                "duration_metrics", "Durations the API computed; stale unless status is success"
            ),
            nested("external_issue_reference", "Issue in another tracker"),
            flag("has_debrief", "Whether a debrief was held"),
            nested("debriefs", "Debriefs, each with its start and end"),
            text("postmortem_document_url", "Address of the post-mortem"),
            nested("postmortem_document_ids", "Post-mortem documents"),
            text("call_url", "Address of the call"),
            text("permalink", "Address in the product"),
            text("slack_channel_id", "Chat channel"),
            text("slack_channel_name", "Chat channel's name"),
            text("slack_team_id", "Chat workspace"),
            text("slack_channel_url", "Address of the chat channel"),
            text("ms_teams_channel_url", "Address of the channel in Microsoft Teams"),
            nested("team_ids", "Teams that it belongs to"),
            instant("last_activity_at", "When anything last happened on it"),
            decimal("workload_minutes_total", "Time people spent on it, minutes"),
            decimal("workload_minutes_working", "Of that in working hours, minutes"),
            decimal("workload_minutes_late", "Of that in late hours, minutes"),
            decimal("workload_minutes_sleeping", "Of that in sleeping hours, minutes"),
            CREATED,
            UPDATED,
        ),
    ),
)


def find_endpoint(name: str) -> Endpoint:
    """Return the row of that name. Raises KeyError with the known names."""
    for endpoint in ENDPOINTS:
        if endpoint.name == name:
            return endpoint
    raise KeyError(f"no resource {name!r}; there are {', '.join(e.name for e in ENDPOINTS)}")
