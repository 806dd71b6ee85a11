"""The names and kinds that the bundled account is made of; how rows come of them is `account`'s."""

FIRST = (
    "Ada Ben Chi Dana Emre Fatou Goran Hana Iris Jun Kofi Lena Mina Noor Otto Pia Rui Siv".split()
)
LAST = (
    "Abel Brandt Costa Duval Eriksen Farah Garcia Huang Ito Jansen Khan Lopez Møller Novak".split()
)
SERVICES = "checkout search login billing mail ledger uploads gateway reports webhooks".split()
SYMPTOMS = (
    "errors in {}",
    "{} is slow",
    "{} is down",
    "queue of {} grows",
    "certificate of {} expired",
    "“{}” returns stale data 🧊",
)
SEVERITIES = ("Trivial", "Minor", "Major", "Critical", "Disaster")
STATUSES = (
    ("Triage", "triage", -2),
    ("Investigating", "live", 1),
    ("Fixing", "live", 2),
    ("Monitoring", "live", 3),
    ("Documenting", "learning", 4),
    ("Reviewing", "learning", 5),
    ("Paused", "paused", 6),
    ("Closed", "closed", 7),
    ("Declined", "declined", -1),
    ("Canceled", "canceled", -3),
    ("Merged", "merged", -4),
)
MOMENTS = (
    "Reported",
    "Accepted",
    "Declined",
    "Merged",
    "Canceled",
    "Resolved",
    "Impact started",
    "Identified",
    "Fixed",
    "Documented",
    "Reviewed",
    "Closed",
)
ROLES = (
    ("Incident lead", "lead"),
    ("Reporter", "reporter"),
    ("Communications", "custom"),
    ("Scribe", "custom"),
    ("Liaison", "custom"),
)
FIELDS = (
    ("Affected service", "single_select"),
    ("Affected teams", "multi_select"),
    ("Customers hit", "numeric"),
    ("Root cause", "text"),
    ("Ticket", "link"),
    ("Owner", "single_select"),  # an entry of the catalog type Team
)
TEAMS = ("Platform", "Payments", "Storefront", "Data", "Mobile")
TYPES = ("Default", "Security", "Data")
PRIORITIES = ("Urgent", "High", "Low")
DURATIONS = (
    ("Time to acknowledge", "Reported", "Accepted"),
    ("Time to fix", "Impact started", "Fixed"),
    ("Time to resolve", "Impact started", "Resolved"),
)
