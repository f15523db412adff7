"""Train the light CT network on simulated quarter-dose noise; resumable, meant to run beside other work.

    python scripts/train_weights.py pack  --scans FOLDER      # clean slices and their noise, one file under 60 MB
    python scripts/train_weights.py train                     # continues where the last run stopped
    python scripts/train_weights.py export --scans FOLDER     # the averaged weights of now, measured, with their card

FOLDER holds the scans of `TRAINING` and `VALIDATION`, under these names, taken from the packages named there.
Everything that is made on the way lies in training_state/ct-denoise/.
"""

import argparse
import hashlib
import json
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch

from napari_restore_rwkv.metrics import psnr
from napari_restore_rwkv.network.checkpoint import Card, save_checkpoint
from napari_restore_rwkv.network.model import RestoreRWKV
from napari_restore_rwkv.scans.files import read_scan
from napari_restore_rwkv.scans.intensity import IntensityRule, choose_intensity
from napari_restore_rwkv.scans.scan import Scan
from napari_restore_rwkv.simulate.ct import QUARTER_DOSE_NOISE_HU, added_noise
from napari_restore_rwkv.training.pairs import CROPS, Pairs
from napari_restore_rwkv.training.train import Trainer, TrainingOptions

ROOT = Path(__file__).parent.parent
STATE = ROOT / "training_state" / "ct-denoise"
WEIGHTS = ROOT / "napari_restore_rwkv" / "network" / "weights" / "ct-denoise.safetensors"
# Each scan with the package that it comes from, and that package's licence.
TRAINING = {
    "ct_chest_a.nrrd": "PyPI pyradiomics 3.0.1 (sdist), data/lung1_image.nrrd, BSD-3-Clause",
    "ct_thorax_b_1p5mm.nii.gz": "PyPI totalsegmentator 2.18.0 (sdist), tests/reference_files/aorta_report, Apache-2.0",
}
VALIDATION = "ct_abdomen_c_dicom"
VALIDATION_SOURCE = "PyPI totalsegmentator 2.18.0 (sdist), tests/reference_files/example_ct_dicom, Apache-2.0"
VALIDATION_SLICES = (3, 8, 13, 18)
WINDOW_HU = (-160.0, 240.0)
# Noise strength relative to quarter dose: from above half dose to below one eighth.
STRENGTHS = (0.4, 1.9)
# What the shipped weights are measured at: about half, a quarter, and an eighth of the dose.
MEASURED_STRENGTHS = (0.6, 1.0, 1.5)
OPTIONS = TrainingOptions(steps=4000)


def pack(scans: Path) -> None:
    """Make the training and the validation pairs."""
    chest, thorax = (read_scan(scans / name) for name in TRAINING)
    slices = [(image, chest.spacing_mm[1]) for image in chest.voxels[::2]]
    # Binned pixels and averaged thin slices: another scale of anatomy, and targets with less noise of their own.
    slices += [(_binned(image), 2 * chest.spacing_mm[1]) for image in chest.voxels[1::2]]
    thick = thorax.voxels[: thorax.shape[0] // 3 * 3].reshape(-1, 3, *thorax.shape[1:]).mean(axis=1)
    slices += [(image, thorax.spacing_mm[1]) for image in thick]
    _pack_slices(slices, STATE / "pairs.safetensors", seed=1000)

    abdomen = read_scan(scans / VALIDATION)
    _pack_slices(
        [(abdomen.voxels[i], abdomen.spacing_mm[1]) for i in VALIDATION_SLICES],
        STATE / "validation.safetensors",
        seed=1,
    )


def train(minutes: float) -> None:
    """Train until the schedule ends or the time is over, whichever comes first."""
    pairs, validation = Pairs.load(STATE / "pairs.safetensors"), Pairs.load(STATE / "validation.safetensors")
    rule = _ct_rule()
    scale, offset = 1 / (rule.high - rule.low), -rule.low / (rule.high - rule.low)

    def draw(rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        degraded, clean = pairs.batch(rng, STRENGTHS)
        return degraded * scale + offset, (clean * scale + offset).clamp(0, 1)

    torch.manual_seed(OPTIONS.seed)
    trainer = Trainer(RestoreRWKV.light(), draw, OPTIONS)
    state, curve = STATE / "state.pt", STATE / "curve.jsonl"
    if state.exists():
        trainer.resume(state)
        print(f"continuing at step {trainer.step}", flush=True)
    end, losses = time.monotonic() + 60 * minutes, []
    for step in trainer.run():
        losses.append(step.loss)
        over = time.monotonic() > end
        if step.step % 250 == 0 or over or step.step == OPTIONS.steps:
            scores = validate(trainer.averaged_network(), validation, rule)
            row = {"step": step.step, "loss": float(np.mean(losses)), **scores}
            with curve.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(row, flush=True)
            trainer.save(state)
            losses = []
        if over:
            break


def export(scans: Path) -> None:
    """Ship the averaged weights of the saved state, with what they are worth on the validation subject."""
    state = torch.load(STATE / "state.pt", weights_only=True)
    network = RestoreRWKV.light()
    network.load_state_dict(state["average"])
    validation, rule = Pairs.load(STATE / "validation.safetensors"), _ct_rule()
    measured = []
    for strength in MEASURED_STRENGTHS:
        pairs = Pairs(validation.clean, [strength * noise for noise in validation.noise])
        measured.append({"noise_hu": strength * QUARTER_DOSE_NOISE_HU, **validate(network.fused(), pairs, rule)})
        print(measured[-1], flush=True)
    curve = [json.loads(line) for line in (STATE / "curve.jsonl").read_text().splitlines()]
    card = Card(
        title="light",
        task="ct-denoise",
        modality="CT",
        created=date.today().isoformat(),
        intended_use="Reducing noise in axial CT of the trunk at about half to one eighth of the usual dose. "
        "Research only.",
        limits="Trained on two subjects with simulated noise, measured on a third; not tested on real low-dose "
        "acquisitions, on heads or limbs, or on sharp kernels. Small structures of low contrast may be smoothed away.",
        details={
            "training_scans": [_described(scans / name, source) for name, source in TRAINING.items()],
            "validation_scans": [_described(scans / VALIDATION, VALIDATION_SOURCE)],
            "recipe": {
                **state["options"],
                "steps_done": state["step"],
                "strengths": STRENGTHS,
                "crops": CROPS,
                "noisy_values_clipped": False,
            },
            "curve": curve,
            "measured": {
                "what": f"PSNR in dB, window {WINDOW_HU} HU, {len(validation.clean)} whole slices "
                "of a subject never trained on",
                "rows": measured,
            },
        },
    )
    save_checkpoint(network, card, WEIGHTS)


def validate(network: torch.nn.Module, validation: Pairs, rule: IntensityRule) -> dict[str, float]:
    """PSNR on whole slices of the validation subject, before and after, in dB, window [-160, 240] HU."""
    before, after = [], []
    for clean, noise in zip(validation.clean, validation.noise, strict=True):
        noisy = clean + noise
        with torch.no_grad():
            image = torch.from_numpy(rule.to_network(noisy))[None, None]
            restored = rule.from_network(network(image)[0, 0].numpy(), noisy)
        before.append(psnr(noisy, clean, window=WINDOW_HU))
        after.append(psnr(restored, clean, window=WINDOW_HU))
    return {"psnr_before": float(np.mean(before)), "psnr_after": float(np.mean(after))}


def _pack_slices(slices: list[tuple[np.ndarray, float]], path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = []
    for i, (image, pixel_mm) in enumerate(slices):
        noise.append(_noise_of_any_shape(image, pixel_mm, seed + i))
        print(f"{path.name}: {i + 1} of {len(slices)}", flush=True)
    Pairs([image for image, _ in slices], noise).save(path)


def _noise_of_any_shape(image: np.ndarray, pixel_mm: float, seed: int) -> np.ndarray:
    height, width = image.shape
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.full((side, side), -1024, np.float32)
    square[top : top + height, left : left + width] = image
    noise = added_noise(square, pixel_mm, QUARTER_DOSE_NOISE_HU, seed=seed)
    return noise[top : top + height, left : left + width]


def _ct_rule() -> IntensityRule:
    return choose_intensity(Scan(np.zeros((1, 1, 1)), modality="CT"))


def _described(path: Path, source: str) -> dict[str, str]:
    """Name, origin and digest of a scan; that of a folder is of its files one after the other, in order of name."""
    files = [path] if path.is_file() else sorted(path.iterdir())
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    return {"name": path.name, "source": source, "sha256": digest}


def _binned(image: np.ndarray) -> np.ndarray:
    return image.reshape(image.shape[0] // 2, 2, image.shape[1] // 2, 2).mean(axis=(1, 3))


def main() -> None:
    """Run the step named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("pack", "train", "export"))
    parser.add_argument("--scans", type=Path, help="folder of the training scans (for pack and export)")
    parser.add_argument(
        "--minutes", type=float, default=1e9, help="stop training after this time (default: the whole schedule)"
    )
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.step != "train" and options.scans is None:
        parser.error(f"{options.step} needs --scans FOLDER")
    if options.step == "pack":
        pack(options.scans)
    elif options.step == "train":
        train(options.minutes)
    else:
        export(options.scans)


if __name__ == "__main__":
    main()
