"""The paper's protocol: ready configurations, layout, pickled slices, metrics."""

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.simulate.whole_scan import STRENGTHS
from napari_restore_rwkv.training.config import read_config
from napari_restore_rwkv.training.paper import PAPER_SCHEDULE, paper_score, paper_source
from napari_restore_rwkv.training.paper_slices import read_slice

CONFIGS = Path(__file__).parents[2] / "configs"
SLICE = np.random.default_rng(0).normal(0, 100, (1, 6, 5)).astype(np.float32)


@pytest.mark.parametrize("name", ["ct", "mri", "pet", "all_in_one"])
def test_the_ready_configurations_are_the_papers_protocol(name):
    config = read_config(CONFIGS / f"paper_{name}.toml")
    assert config.schedule == PAPER_SCHEDULE
    assert (config.network.size, config.protocol) == ("full", "paper")
    assert len(config.data) == len(config.validation) == (3 if name == "all_in_one" else 1)
    schedule = config.schedule
    assert (schedule.optimiser, schedule.learning_rate, schedule.final_learning_rate) == ("adam", 2e-4, 1e-6)
    assert (schedule.batch, schedule.crop, schedule.steps, schedule.loss) == (4, 128, 300_000, "absolute")
    assert (schedule.flips, schedule.rotations) == (False, False)
    assert schedule.gradient_norm == math.inf


@pytest.mark.parametrize(
    ("name", "tasks"),
    [("ct", {"ct-denoise"}), ("mri", {"mri-sr"}), ("pet", {"pet-low-count"}), ("all_in_one", set(STRENGTHS))],
)
def test_the_projects_own_configurations_simulate_within_limits(name, tasks):
    config = read_config(CONFIGS / f"ours_{name}.toml")
    assert (config.network.size, config.protocol, config.schedule.optimiser) == ("light", "ours", "adamw")
    assert {source.task for source in config.data} == tasks
    simulated = [source for source in config.data if source.degraded is None]
    assert {source.task for source in simulated} == tasks
    for source in simulated:
        possible = STRENGTHS[source.task]
        assert all(possible.least <= strength <= possible.most for strength in source.strength)


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("kind", ["tensor", "array", "columns", "double"])
def test_pickled_slices_are_read(tmp_path, protocol, kind):
    stored = {
        "tensor": torch.from_numpy(SLICE),
        "array": SLICE[0],
        "columns": np.asfortranarray(SLICE[0]),
        "double": SLICE.astype(">f8"),
    }[kind]
    path = tmp_path / "1.bin"
    path.write_bytes(pickle.dumps(stored, protocol=protocol))
    scan = read_slice(path, "CT")
    np.testing.assert_array_equal(scan.voxels, SLICE)
    assert (scan.modality, scan.unit) == ("CT", "HU")


# A tuple that holds another one twice, and so on, sixty deep: the last one is number 60 of the reader's memory.
DOUBLED = b"\x80\x02K\1K\2\x86q\0" + b"".join(b"h%ch%c\x86q%c0" % (at, at, at + 1) for at in range(60))


class Hostile:
    def __reduce__(self):
        return (Path.touch, (Path("/tmp/must-not-exist"),))


@pytest.mark.parametrize(
    "stored",
    [
        pickle.dumps(Hostile()),
        pickle.dumps({"a": 1}),
        pickle.dumps(np.array([object()], dtype=object)),
        pickle.dumps(torch.from_numpy(SLICE).transpose(1, 2)),
        pickle.dumps(torch.from_numpy(SLICE))[:-40],
        b"",
        b"\x80\x04r\xff\xff\xff\x7f.",
        DOUBLED + b"}h\x3cK\x01s.",
        DOUBLED + b"]h\x3ca(h\x3ch\x3cl.",
        DOUBLED + b"cnumpy\ndtype\nh\x3cK\0K\1\x87R.",
        DOUBLED + b"ccollections\nOrderedDict\n]h\x3cK\1\x86a\x85R.",
        pickle.dumps(torch.from_numpy(SLICE)).replace(SLICE.tobytes(), b"")[:200],
    ],
)
def test_a_pickle_of_anything_else_is_refused_and_never_run(tmp_path, stored):
    path = tmp_path / "1.bin"
    path.write_bytes(stored)
    with pytest.raises(ScanError, match=r"1.bin is not a pickled array of plain numbers|1.bin contains an array of"):
        read_slice(path)
    assert not Path("/tmp/must-not-exist").exists()


def test_a_pickled_volume_is_refused(tmp_path):
    (tmp_path / "1.bin").write_bytes(pickle.dumps(np.zeros((2, 3, 4), np.float32)))
    with pytest.raises(ScanError, match=r"1.bin contains an array of shape \(2, 3, 4\), not one slice"):
        read_slice(tmp_path / "1.bin")


def test_the_papers_metrics_truncate_and_count_windows_beyond_the_edge():
    rng = np.random.default_rng(1)
    truth = rng.normal(0, 150, (24, 20))
    image = truth + rng.normal(0, 20, truth.shape)
    psnr, ssim, rmse = paper_score(image, truth, "CT")
    shown, clipped = np.clip(image, -160, 240), np.clip(truth, -160, 240)
    error = np.mean((shown - clipped) ** 2)
    assert rmse == pytest.approx(error**0.5)
    assert psnr == pytest.approx(10 * np.log10(np.ptp(clipped) ** 2 / error))
    padded = [np.pad(one, 10) for one in (shown, clipped)]
    _, everywhere = structural_similarity(
        *padded,
        data_range=np.ptp(clipped),
        gaussian_weights=True,
        sigma=1.5,
        truncate=3.5,
        use_sample_covariance=False,
        full=True,
    )
    assert ssim == pytest.approx(everywhere[10:-10, 10:-10].mean(), rel=1e-9)


def test_a_folder_of_another_layout_is_refused(tmp_path):
    with pytest.raises(ScanError, match=r"no folder .*MRI/train/LQ; the data are expected as MRI/train, validation"):
        paper_source(tmp_path, "mri-sr", "train")
