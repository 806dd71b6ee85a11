"""dlt's DuckDB destination on a connection that is open already, made cheap for small syncs.

dlt asks for what a destination is and can do hundreds of times in a run. What is loaded into it,
and who opens and closes the connection, is decided elsewhere.
"""

from typing import Any

import dlt
import duckdb
from dlt.common.configuration import configspec
from dlt.common.destination import DestinationCapabilitiesContext

# dlt exports its destinations, but not what they are configured by.
from dlt.destinations.impl.duckdb.configuration import DuckDbClientConfiguration


@configspec(init=False)
class OpenConfiguration(DuckDbClientConfiguration):
    """The configuration of an open database, whose path is in messages of ours anyway."""

    def __str__(self) -> str:
        # dlt would import SQLAlchemy, to write an address that nobody reads.
        return "duckdb"


class OpenDuckDB(dlt.destinations.duckdb):
    """The destination that a pipeline writes through `connection`, which stays open."""

    spec = OpenConfiguration

    def __init__(self, connection: duckdb.DuckDBPyConnection):
        # Without this, dlt merges most tables in two commits, and a crash between them loses rows.
        super().__init__(connection, supports_transactions=True)
        self._configuration: Any = None

    @property
    def destination_type(self) -> str:
        """What dlt notes in its state: databases of ours look like any other."""
        return "dlt.destinations.duckdb"

    def capabilities(
        self, config: Any = None, naming: Any = None
    ) -> DestinationCapabilitiesContext:
        """Return what DuckDB can do, settings looked up once instead of every time."""
        if config is None:
            config = self._configuration or self.configuration(self.spec(), accept_partial=True)
            self._configuration = config
        return super().capabilities(config, naming)
