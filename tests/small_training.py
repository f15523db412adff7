"""A training that takes seconds: a tiny network, small slices, few steps."""

from phantom import clean_scan, noisy_scan

from napari_restore_rwkv.scans.files import write_scan

CONFIG = """
folder = "state"
output = "ours.restorerwkv"
device = "cpu"

[[data]]
task = "ct-denoise"
degraded = "low"
target = "full"

[network]
channels = 4
blocks = [1, 1, 1, 1]
refinement = 1

[schedule]
steps = 4
batch = 2
crop = 16
learning_rate = 5e-3
warm_up_steps = 1
score_every = 2
score_slices = 2
save_every = 1
readers = 0
"""


def write_pairs(folder, scans=3, side=24):
    """Fill FOLDER/low and FOLDER/full with NIfTI of the same names."""
    for name in ("low", "full"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for n in range(scans):
        clean = clean_scan(slices=4, side=side, seed=n)
        write_scan(clean, folder / "full" / f"{n}.nii")
        write_scan(noisy_scan(clean, seed=n), folder / "low" / f"{n}.nii")


def write_config(where, text=CONFIG, **changes):
    """Write the configuration, lines replaced by name; one whose value is None is left out."""
    lines = text.splitlines()
    for name, value in changes.items():
        at = next(i for i, line in enumerate(lines) if line.startswith(f"{name} ="))
        lines[at] = "" if value is None else f"{name} = {value}"
    path = where / "config.toml"
    path.write_text("\n".join(lines) + "\n")
    return path
