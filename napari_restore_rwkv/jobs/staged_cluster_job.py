"""A job on a cluster for a scan from anywhere: voxels that are in no file are copied to where the workers see them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import RestoreError
from ..progress import Phase, Progress
from ..scans.export import export_scan
from ..scans.lazy import LazyVoxels
from ..storage.durable import creating_errors
from ..storage.temporary import TemporaryFolder
from .cluster import ClusterJob, Source

if TYPE_CHECKING:
    from collections.abc import Generator

    from ..scans.scan import Scan

_COMPARED_AT_ONCE = 16


class StagedClusterJob(ClusterJob):
    """A `ClusterJob` whose workers get the voxels of the scan, whatever its file now contains.

    Parameters
    ----------
    address, scan, network, path, options
        As for `ClusterJob`.
    source
        As for `ClusterJob`; its path is "" if the scan does not come from a file. If the file does not contain exactly
        the voxels of the scan, these are written beside the output, and removed when the job ends.
    """

    def run(self) -> Generator[Progress, int | None, Scan]:
        """Do the remaining work; see `ZarrJob.run`."""
        if (yield from self._matches_its_file()):
            return (yield from super().run())
        with creating_errors(self.path):
            folder = TemporaryFolder(self.path.parent)
        with folder as place:
            # Workers may belong to another user.
            shutil.copymode(self.path.parent, place.parent)
            shutil.copymode(self.path.parent, place)
            copy = place / f"{self.path.name}.input.mha"
            for step in export_scan(self._scan, copy):
                yield replace(step, phase=Phase.STAGING)
            # Intensities were already chosen here, and the layer's choices apply to the file, which is not read.
            self._source = Source(str(copy), self._source.weights, device=self._source.device)
            return (yield from super().run())

    def _matches_its_file(self) -> Generator[Progress, Any, bool]:
        """Compare the scan with what workers would open."""
        if not self._source.path:
            return False
        voxels, total = self._scan.voxels, self._scan.shape[0]
        if isinstance(voxels, LazyVoxels) and voxels.source is not None and str(voxels.source) == self._source.path:
            return True
        try:
            found = self._source.open().voxels
        except RestoreError:
            return False
        if found.shape != voxels.shape or found.dtype != voxels.dtype:
            return False
        for start in range(0, total, _COMPARED_AT_ONCE):
            yield Progress(Phase.STAGING, start, total)
            here, there = (np.asarray(some[start : start + _COMPARED_AT_ONCE]) for some in (voxels, found))
            if not np.array_equal(here, there, equal_nan=here.dtype.kind == "f"):
                return False
        return True
