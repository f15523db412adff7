"""Writing bundles of fine-tuned weights, and finding those on this computer; `network.bundles` has the format."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import save

from ..errors import CheckpointError, OutputError
from ..network.bundles import (
    ADAPTERS,
    BASE,
    CARD,
    FORMAT,
    MANIFEST,
    PICTURE,
    SUFFIX,
    WEIGHTS,
    digest,
    read_bundle,
)
from ..network.checkpoint import card_from
from ..network.restorer import Card
from ..storage.durable import creating_errors, put_in_place, sync_file
from ..storage.temporary import TemporaryFolder
from ..untrusted import json_object
from ..user_folder import user_data_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

FOLDER_VARIABLE = "RESTORE_RWKV_BUNDLES"


@dataclass(frozen=True, slots=True)
class Bundle:
    """One bundle on this computer, for a list.

    Attributes
    ----------
    path
        What `load_checkpoint` takes.
    card
        Its card; one with only a title if it cannot be read.
    problem
        Why it cannot be used; "" if it can, as far as its card and list of files show.
    """

    path: Path
    card: Card
    problem: str = ""

    @property
    def accepted(self) -> bool:
        """Whether its held-out slices gained enough when it was made."""
        return bool(self.card.details.get("verdict", {}).get("accepted"))


def bundles_folder() -> Path:
    """Where this user's bundles are: ``RESTORE_RWKV_BUNDLES``, or the platform's folder for application data."""
    if chosen := os.environ.get(FOLDER_VARIABLE):
        return Path(chosen)
    return user_data_folder() / "bundles"


def new_bundle(task: str) -> Path:
    """Return a new name in `bundles_folder`, without its suffix."""
    return bundles_folder() / f"{task or 'weights'}-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"


def available_bundles(folder: Path | None = None) -> list[Bundle]:
    """List the bundles of a folder, by default `bundles_folder`, the newest first; their weights are not read."""
    found = sorted((folder or bundles_folder()).glob(f"*{SUFFIX}"), key=lambda path: path.name)
    bundles = [_look_at(path) for path in found]
    return sorted(
        bundles, key=lambda bundle: str(bundle.card.details.get("created", bundle.card.created)), reverse=True
    )


def save_bundle(
    path: Path,
    card: Card,
    *,
    weights: Mapping[str, Tensor] | None = None,
    adapters: Mapping[str, Tensor] | None = None,
    base: Mapping[str, Tensor] | None = None,
    picture: bytes | None = None,
) -> Path:
    """Write a bundle; the card gets the digest of the weights or adapters.

    Parameters
    ----------
    path
        A new file; a missing suffix is added, and the folder created.
    weights, adapters
        Either all weights, or the adapters.
    base
        The weights that the adapters change, if these do not ship with this package.
    picture
        PNG of a held-out slice.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    OutputError
        If there is such a file already, or it cannot be written.
    """
    path = path if path.suffix.lower() == SUFFIX else path.with_name(path.name + SUFFIX)
    name, values = (ADAPTERS, adapters) if adapters is not None else (WEIGHTS, weights)
    assert values is not None
    payload = safetensors_bytes(values)
    contents = {
        CARD: json.dumps(card.as_dict() | {"weights_sha256": digest(payload)}, indent=2).encode(),
        name: payload,
        **({BASE: safetensors_bytes(base)} if base is not None else {}),
        **({PICTURE: picture} if picture is not None else {}),
    }
    manifest = {"format": FORMAT, "files": {file: digest(content) for file, content in contents.items()}}
    with _new_file(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        for file, content in {MANIFEST: json.dumps(manifest, indent=2).encode(), **contents}.items():
            archive.writestr(zipfile.ZipInfo(file), content)
    return path


def copy_bundle(source: Path, target: Path) -> Path:
    """Copy an intact bundle, to share it or to list it here; return the new file.

    Raises
    ------
    CheckpointError
        If it is not a bundle, is damaged or was changed.
    OutputError
        If there is such a file already, or it cannot be written.
    """
    read_bundle(source)
    target = target if target.suffix.lower() == SUFFIX else target.with_name(target.name + SUFFIX)
    with _new_file(target) as partial:
        shutil.copyfile(source, partial)
    return target


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[Path]:
    """Give a temporary name to write to, renamed to the file at the end; if that fails, neither is left."""
    with creating_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                raise FileExistsError(path)
            with TemporaryFolder(path.parent) as folder:
                made = folder / path.name
                yield made
                sync_file(made)
                put_in_place(made, path, overwrite=False)
        except FileExistsError as error:
            raise OutputError(
                f"{path.name} already exists, and weights are never overwritten; give another name."
            ) from error


def safetensors_bytes(values: Mapping[str, Tensor]) -> bytes:
    """Weights as they are stored in a bundle, and digested for its card."""
    return save({name: value.detach().cpu().contiguous() for name, value in values.items()})


def _look_at(path: Path) -> Bundle:
    try:
        stored = json_object(read_bundle(path, only=[CARD])[CARD])
        return Bundle(path, card_from(stored, path.name))
    except CheckpointError as error:
        return Bundle(path, Card(title=path.stem), str(error))
    except (KeyError, ValueError):
        return Bundle(path, Card(title=path.stem), f"{path.name} has no readable card; get a new copy.")
