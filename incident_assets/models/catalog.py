"""The models as their SQL files have them: keys, descriptions, types, dependencies, lineage.

What the SQL says is worked out in `lineage`, and kept in `lineage.json`, which is part of the
package; `python -m incident_assets_tests.pages` writes it. Where the file is not of these SQL
files, a model was edited: the process works it out for itself, and writes nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import NamedTuple

import duckdb
import msgspec

from incident_assets.api.categories import Category
from incident_assets.api.endpoints import ENDPOINTS, LOADER_COLUMNS
from incident_assets.models.mappings import SETTINGS
from incident_assets.warehouse.columns import DUCKDB_TYPES
from incident_assets.warehouse.comments import Description
from incident_assets.warehouse.history import ENDS
from incident_assets.warehouse.schemas import HISTORY_SCHEMA

MODEL_SCHEMA = "incident_analytics"
SETTING_SCHEMA = "setting"  # of relations that hold settings; they are no tables
CONSTANT = "constant"  # in place of a schema, for a value that the SQL itself states
KEPT = "lineage.json"


class ColumnSource(NamedTuple):
    """A column that another one is made from: of a raw table, a model, a setting; or a constant."""

    schema: str
    table: str
    column: str

    @property
    def label(self) -> str:
        """Its name without the schema: `table.column`, or the constant as SQL has it."""
        return ".".join(filter(None, (self.table, self.column)))


@dataclass(frozen=True)
class ModelColumn:
    """An output column; `sources` are those its SELECT reads, one step back."""

    name: str
    type: str
    description: str
    sources: frozenset[ColumnSource]


@dataclass(frozen=True)
class Model:
    """A model as its file tells it: `notes` are the paragraphs of its first comment.

    `tables` are the (schema, table) of all that it reads.
    """

    name: str
    sql: str
    notes: tuple[str, ...]
    grain: tuple[str, ...]
    tables: frozenset[tuple[str, str]]
    columns: tuple[ModelColumn, ...]

    @property
    def histories(self) -> frozenset[tuple[str, str]]:
        """Those of its tables that hold what rows were."""
        return frozenset(table for table in self.tables if table[0] == HISTORY_SCHEMA)

    @property
    def texts(self) -> Description:
        """What its table and columns are."""
        return Description("\n\n".join(self.notes), {x.name: x.description for x in self.columns})


@cache
def read_models() -> Mapping[str, Model]:
    """Return the models by name, each after those it reads."""
    if (kept := _read_kept()) is not None:
        return kept
    # Late, since it costs more than all else that a process does to know the models.
    from incident_assets.models.lineage import parse_models

    return {name: parsed.model for name, parsed in parse_models().items()}


def read_texts() -> dict[str, str]:
    """Return the SQL of each model by its name."""
    paths = [path for path in files("incident_assets.models").iterdir() if path.name[-4:] == ".sql"]
    return {path.name[:-4]: path.read_text() for path in paths}


def find_file(name: str) -> str:
    """Return the path of a model's SQL file."""
    return str(files("incident_assets.models") / f"{name}.sql")


@cache
def find_origins(source: ColumnSource) -> frozenset[ColumnSource]:
    """Return the raw columns, settings and constants a column goes back to, through all models."""
    if source.schema != MODEL_SCHEMA:
        return frozenset({source})
    columns = {column.name: column for column in read_models()[source.table].columns}
    return frozenset(o for nearer in columns[source.column].sources for o in find_origins(nearer))


def write_kept(models: Mapping[str, Model]) -> str:
    """Return the text of `lineage.json`: these models without their SQL, a column on a line."""
    told = []
    for model in models.values():
        known = msgspec.to_builtins(model, order="deterministic")
        del known["sql"]
        columns = ",\n".join(json.dumps(column) for column in known.pop("columns"))
        told.append(f'{json.dumps(known)[:-1]}, "columns": [\n{columns}\n]}}')
    body = ",\n".join(told)
    return f'{{"of": "{_name_content(read_texts())}", "models": [\n{body}\n]}}\n'


def _read_kept() -> dict[str, Model] | None:
    """Return the models that `lineage.json` tells of; None unless these SQL files are its own."""
    texts = read_texts()
    try:
        kept = msgspec.json.decode((files("incident_assets.models") / KEPT).read_bytes())
        if kept["of"] != _name_content(texts):
            return None
        told = [model | {"sql": texts[model["name"]]} for model in kept["models"]]
        return {model.name: model for model in msgspec.convert(told, list[Model])}
    except (OSError, msgspec.MsgspecError, LookupError, TypeError):
        return None  # not there, or not whole: a merge may have left both sides in it


def _name_content(texts: Mapping[str, str]) -> str:
    """Return a hash of all that the kept models follow from.

    Types are DuckDB's to say, so its release series counts. What a column is made from is a matter
    of the SQL alone: a test works it out with the sqlglot that is there.
    """
    read = {e.name: (*e.columns, *LOADER_COLUMNS, *ENDS) for e in ENDPOINTS}
    raw = {name: [(c.name, c.type) for c in columns] for name, columns in read.items()}
    settings = {name: {k: str(v) for k, v in of.items()} for name, of in SETTINGS.items()}
    series = duckdb.__version__.split(".")[:2]
    code = (files("incident_assets.models") / "lineage.py").read_text()
    content = [sorted(texts.items()), raw, DUCKDB_TYPES, settings, Category._fields, series, code]
    return sha256(msgspec.json.encode(content)).hexdigest()
