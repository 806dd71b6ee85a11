"""The scoreboard tells what its tools do; those that need another environment are not run."""

import pytest

from benchmarks.scoreboard import FAULTS, TOOLS, Result, render, run_faults


def test_the_page_says_who_hung_who_was_silent_and_what_is_wrong() -> None:
    """A verdict a tool and fault, then the figures of each run in the faults' own order."""
    lost = {"incidents: missing": 7, "actions: twice": 2}
    page = render(
        [
            Result("ours", "an emptied list", 1, 3.2, 47, lost),
            Result("ours", "none", 0, 2, 50, {}),
            Result("other", "an emptied list", 0, 5, 1_046, lost),
            Result("other", "none", None, 120, 20, {}),
        ]
    )
    assert "| an emptied list | behind, said so | **wrong, silent** |" in page
    assert "| none | right | **hung** |" in page
    figures = page.partition("\n\n")[2].splitlines()[2:]
    assert figures == [
        "| none | ours | 0 | 0 | 2 | 50 |",
        "| none | other | 0 | stopped at 180 s | 120 | 20 |",
        "| an emptied list | ours | 2 actions: twice; 7 incidents: missing | 1 | 3 | 47 |",
        "| an emptied list | other | 2 actions: twice; 7 incidents: missing | 0 | 5 | 1,046 |",
    ]


@pytest.mark.long  # real syncs, four of them
@pytest.mark.parametrize(
    ("name", "fault", "verdict", "wrong"),
    [
        ("ours", "an emptied list", "behind, said so", 5),
        ("bare dlt", "a page without pagination_meta", "**wrong, silent**", 0),
    ],
)
def test_a_tool_goes_through_a_fault(name: str, fault: str, verdict: str, wrong: int) -> None:
    """What it kept is compared with upstream, where five incidents are new and others renamed."""
    (tool,) = (tool for tool in TOOLS if tool.name == name)
    usual, result = run_faults(tool, [fault], incidents=60)
    assert (usual.fault, usual.code, result.fault) == ("none", 0, fault)
    assert result.verdict == verdict
    assert result.wrong.get("incidents: missing", 0) == wrong
    assert result.wrong["incidents: other values"] and result.requests
    assert fault in FAULTS
