"""Zarr folders made by hand, and a store that counts what is read from them."""

import json

import numpy as np
import zarr
from zarr.storage import LocalStore


def ome(path, voxels, axes, version="0.5", units=None, scale=None, translation=None, chunks=None, dtype=None):
    """Write an OME-Zarr image with one level, as other programs do."""
    zarr_format = 3 if version == "0.5" else 2
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    array = group.create_array(
        "full",
        shape=voxels.shape,
        dtype=dtype or voxels.dtype,
        chunks=chunks or voxels.shape,
        **({"dimension_names": tuple(axes)} if zarr_format == 3 else {}),
    )
    array[:] = voxels
    kinds = {"t": "time", "c": "channel"}
    steps = [{"type": "scale", "scale": list(scale or [1.0] * len(axes))}]
    if translation:
        steps.append({"type": "translation", "translation": list(translation)})
    image = {
        "axes": [
            {"name": name, "type": kinds.get(name, "space"), **({"unit": unit} if unit else {})}
            for name, unit in zip(axes, units or [None] * len(axes), strict=True)
        ],
        "datasets": [{"path": "full", "coordinateTransformations": steps}],
    }
    if version == "0.5":
        group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    else:
        group.attrs["multiscales"] = [{"version": version, **image}]
    return path


def change_attributes(path, change):
    """Rewrite the attributes of a zarr 3 group as `change` returns them."""
    metadata = json.loads((path / "zarr.json").read_text())
    metadata["attributes"] = change(metadata["attributes"])
    (path / "zarr.json").write_text(json.dumps(metadata))


class Reads:
    """Names of the chunks that have been read from any local store, since it was made."""

    def __init__(self, monkeypatch):
        self.keys = []
        original = LocalStore.get

        async def get(store, key, *args, **kwargs):
            if not key.endswith((".zarray", ".zattrs", ".zgroup", "zarr.json", ".zmetadata")):
                self.keys.append(key)
            return await original(store, key, *args, **kwargs)

        monkeypatch.setattr(LocalStore, "get", get)


def noise(shape, seed=3):
    return np.random.default_rng(seed).integers(-1000, 2000, shape, dtype=np.int16)
