"""The shim re-exports the objects that we import; collected where the extra is installed."""

from dagster_dlt import DagsterDltResource, DagsterDltTranslator


def test_the_shim_has_the_same_objects() -> None:
    from dagster_embedded_elt import dlt as shim

    assert shim.DagsterDltResource is DagsterDltResource
    assert shim.DagsterDltTranslator is DagsterDltTranslator
