"""The output of a small job, and its result if it is not disturbed."""

import pytest
from small_jobs import do


@pytest.fixture
def path(tmp_path):
    """A path for an output that does not exist."""
    return tmp_path / "restored.ome.zarr"


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """The finished output of a job that was never stopped; not to be written to."""
    path = tmp_path_factory.mktemp("undisturbed") / "restored.ome.zarr"
    do(path)
    return path
