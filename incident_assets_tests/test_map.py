"""The contributor's map: each file, name, command and test that its pages name is there.

What the pages say of them is for people to judge.
"""

import ast
import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

from incident_assets.__main__ import command
from incident_assets_tests.pages import ROOT

PAGES = ("docs/architecture.md", "CONTRIBUTING.md", "CHANGELOG.md", "README.md")
# Paths are short where no other file has them.
PLACES = (ROOT, ROOT / "incident_assets", ROOT / "incident_assets_tests")
FILE = r"[\w*./-]+\.(?:py|sql|css|html|md|toml|txt|yaml)"
PATH = re.compile(rf"{FILE}|[\w.-][\w./-]*/(?!\w)")
NAME = re.compile(rf"({FILE})(?:::| *: )([A-Za-z_][\w.]*)")
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
# Made by a run, by setting up or by installing.
NOT_OURS = re.compile(r"data/|/share/|\.venv|.*report\.html")


def read_code(page: str) -> Iterator[str]:
    """Yield what a page has as code, on one line each: between backticks, and lines of shell."""
    text = (ROOT / page).read_text()
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        yield from (line.partition("#")[0].strip() for line in block.splitlines())
    for span in re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        yield " ".join(span.split())


def find_files(path: str) -> list[Path]:
    return [file for place in PLACES for file in place.glob(path.rstrip("/"))]


@cache
def list_names(file: Path) -> set[str]:
    """Return the names that a module defines, with the class that they are in, if any."""
    names = set()

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                names.add(prefix + child.name)
                if isinstance(child, ast.ClassDef):
                    visit(child, f"{child.name}.")
            elif isinstance(child, ast.Assign | ast.AnnAssign):
                targets = child.targets if isinstance(child, ast.Assign) else [child.target]
                names.update(prefix + x.id for x in targets if isinstance(x, ast.Name))

    visit(ast.parse(file.read_text()), "")
    return names


@pytest.mark.parametrize("page", PAGES)
def test_each_file_and_name_on_the_page_is_there(page: str) -> None:
    code = list(read_code(page))
    links = re.findall(r"\]\(([^):]+)\)", (ROOT / page).read_text())
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []
    paths = {path for span in code for path in PATH.findall(span) if not NOT_OURS.match(path)}
    assert [path for path in sorted(paths) if not find_files(path)] == []
    named = {found for span in code for found in NAME.findall(span)}
    missing = [
        f"{path}: {name}"
        for path, name in sorted(named)
        if not any(name in list_names(file) for file in find_files(path))
    ]
    assert missing == []
    if page in ("docs/architecture.md", "CONTRIBUTING.md"):
        assert len(paths) > 20 and len(named) > 15  # or the patterns look past them


@pytest.mark.parametrize("page", PAGES)
def test_each_command_on_the_page_is_there(page: str) -> None:
    found = 0
    for code in read_code(page):
        program, *rest = code.removeprefix(".venv/bin/").split() or [""]
        if program == "make":
            targets = [word for word in rest if "=" not in word]
            assert {*targets} <= TARGETS, code
        elif program == "incident-assets" and rest:
            check_subcommand(command, rest)
        elif program == "python" and rest[:1] == ["-m"] and page != "CHANGELOG.md":
            assert importlib.util.find_spec(rest[1]), code
        else:
            continue
        found += 1
    assert found > 2 or page == "docs/architecture.md"


def check_subcommand(group: click.Command, words: list[str]) -> None:
    """Look for the subcommands and options that a command line begins with."""
    while isinstance(group, click.Group) and words and not words[0].startswith("-"):
        assert words[0] in group.commands, words
        group, words = group.commands[words[0]], words[1:]
    context = click.Context(group)
    known = {name for x in group.get_params(context) for name in (*x.opts, *x.secondary_opts)}
    assert {word for word in words if word.startswith("--")} <= known, words
