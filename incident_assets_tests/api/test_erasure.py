"""Whoever is forgotten is an id in every cell, however a value had to be written."""

import json

import pytest

from incident_assets.api.endpoints import LOADER_COLUMNS, find_endpoint
from incident_assets.api.erasure import Erasure

RESCUED = LOADER_COLUMNS[0]
NAMED = '{"id":"01A","name":"Ada"}'


@pytest.mark.parametrize(
    ("cell", "left"),
    [
        (f'{{"by":[{NAMED},{{"id":"01B"}}]}}', '{"by":[{"id":"01A"},{"id":"01B"}]}'),
        (f'{{"id":["01A"],"by":{NAMED}}}', '{"id":["01A"],"by":{"id":"01A"}}'),
        # What UTF-8 cannot hold is a text of JSON.
        (
            json.dumps({"by": '{"id": "01A", "name": "Ada \\ud83d"}'}),
            json.dumps({"by": '{"id": "01A"}'}, separators=(",", ":")),
        ),
        ('{"text":"{01A"}', '{"text":"{01A"}'),
        # A text that does not name them stays to the letter.
        (f'{{"by":{NAMED},"text":"[1,  2]"}}', '{"by":{"id":"01A"},"text":"[1,  2]"}'),
    ],
)
def test_a_cell_keeps_the_id_alone(cell: str, left: str) -> None:
    (found,) = Erasure(["01A"]).mask_cells(find_endpoint("actions"), RESCUED, [cell])
    assert (found.decode() if isinstance(found, bytes) else found) == left
