"""The list of mutations fits the code: each is there, compiles, and has tests that are there.

Whether the tests notice them takes half an hour: `make mutants`.
"""

import ast

import pytest

from incident_assets_tests.mutants.chosen import CHOSEN, Chosen
from incident_assets_tests.mutants.drawn import DRAWN, draw, list_candidates
from incident_assets_tests.mutants.known import EXPLAINED, TESTS
from incident_assets_tests.mutants.trying import ROOT, BadMutation, Mutation, read_killer


def assert_is_one(mutation: Mutation) -> None:
    compile(mutation.source, mutation.path, "exec")
    before = (ROOT / mutation.path).read_text()
    assert ast.dump(ast.parse(mutation.source)) != ast.dump(ast.parse(before))
    for test in mutation.tests:
        path, _, name = test.partition("::")
        code = (ROOT / "incident_assets_tests" / path).read_text()
        assert not name or f"def {name}(" in code, test


@pytest.mark.parametrize("chosen", CHOSEN, ids=lambda chosen: chosen.says)
def test_a_chosen_mutation_fits_the_code(chosen: Chosen) -> None:
    assert_is_one(chosen.build())


def test_a_chosen_mutation_whose_text_is_gone_is_named() -> None:
    gone = Chosen("a bug", "sync/loss.py", "no such text", "", "sync/test_loss.py")
    with pytest.raises(BadMutation, match=r"'a bug': 'no such text' is 0 times in .*loss.py"):
        gone.build()


def test_the_drawn_mutations_fit_the_code() -> None:
    drawn = draw()
    assert len(CHOSEN) == len(drawn) == DRAWN == 30
    for candidate in drawn:
        assert_is_one(candidate.build())
    assert [x.name for x in draw()] == [x.name for x in drawn]


def test_every_edit_has_a_name_and_every_module_its_tests() -> None:
    candidates = list(list_candidates())
    names = {x.name for x in candidates}
    assert len(names) == len(candidates) > 1500
    assert {name.partition(" ")[0] for name in names} == TESTS.keys()
    assert all((ROOT / "incident_assets_tests" / x).exists() for y in TESTS.values() for x in y)


def test_reasons_are_few_and_of_what_is_drawn() -> None:
    assert len(EXPLAINED) <= 3
    assert EXPLAINED.keys() <= {x.name for x in draw()}  # else, take the reason out


def test_only_a_test_that_failed_has_noticed_something() -> None:
    failed = "FAILED incident_assets_tests/sync/test_a.py::test_b[a b] - assert 1 == 2"
    assert read_killer(1, failed) == "sync/test_a.py::test_b[a b]"
    assert read_killer(2, "ERROR incident_assets_tests/sync/test_a.py - x") == "sync/test_a.py"
    assert read_killer(0, "5 passed") is None
    with pytest.raises(BadMutation, match="pytest ended with 5"):
        read_killer(5, "no tests ran")
