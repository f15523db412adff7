"""Make sample_data/ct_abdomen_quarter_dose.nii.gz: the DICOM series beside it at a quarter of the dose."""

from pathlib import Path

import numpy as np

from napari_restore_rwkv.scans.files import read_scan, write_scan
from napari_restore_rwkv.simulate.ct import low_dose

SAMPLES = Path(__file__).parent.parent / "sample_data"
SEED = 20


def main() -> None:
    """Write the sample."""
    scan = read_scan(SAMPLES / "ct_abdomen_dicom")
    slices = [low_dose(image, scan.spacing_mm[1], seed=SEED + i) for i, image in enumerate(scan.voxels)]
    # The range of the scanner's own numbers.
    voxels = np.rint(np.stack(slices)).clip(-1024, 3071).astype(np.int16)
    write_scan(scan.with_voxels(voxels, metadata={}), SAMPLES / "ct_abdomen_quarter_dose.nii.gz")


if __name__ == "__main__":
    main()
