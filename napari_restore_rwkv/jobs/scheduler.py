"""A dask scheduler for a job: connecting with clear errors, counting workers, and checking which files they see.

An address that begins with "tls://" takes its certificates from dask's configuration (``distributed.comm.tls``).
"""

from __future__ import annotations

import contextlib
import socket
import time
from concurrent.futures import CancelledError
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import DeviceError, OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

_PATIENCE = "30s"
_DEFAULT_PORT, _REACHED_S = 8786, 10.0
# How long slabs in progress may take to end after the job was stopped.
_LAST_SLABS_S, _ASKED_EVERY_S = 120.0, 0.1


@contextlib.contextmanager
def connected(address: str) -> Iterator[Any]:
    """Yield a `distributed.Client` of a scheduler; DeviceError if there is none."""
    try:
        from distributed import Client
    except ImportError as error:
        raise DeviceError(
            "A scheduler needs dask.distributed, which is not installed: pip install 'napari-restore-rwkv[cluster]'."
        ) from error
    try:
        _reach(address)
        client = Client(address, timeout=_PATIENCE, set_as_default=False)
    # Without certificates a TLS address raises a TypeError.
    except (OSError, ValueError, TypeError, TimeoutError) as error:
        certificates = ", and check the certificates in dask's configuration" if address.startswith("tls://") else ""
        raise DeviceError(
            f"There is no dask scheduler at {address}; start one, or correct the address{certificates}."
        ) from error
    with client:
        yield client


def _reach(address: str) -> None:
    """Raise OSError or ValueError if nothing is listening: a client would wait long before it complains."""
    place = urlsplit(address if "://" in address else f"tcp://{address}")
    if place.scheme in ("tcp", "tls"):
        socket.create_connection((place.hostname or "", place.port or _DEFAULT_PORT), timeout=_REACHED_S).close()


def counted(number: int, what: str) -> str:
    """Return a number with its noun, such as "1 worker"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def workers_of(client: Any, address: str) -> set[str]:
    """Addresses of the workers that a scheduler has at this moment; DeviceError if it has ended."""
    try:
        return set(client.nthreads())
    except (OSError, ValueError, TimeoutError) as error:
        raise ended(address, error) from error


def ended(address: str, error: BaseException) -> DeviceError:
    """Return the error of a job whose scheduler or workers are gone."""
    return DeviceError(
        f"The scheduler at {address} or its workers have ended ({type(error).__name__}). Finished slabs are kept",
        "start them again",
        resumable=True,
    )


def described(address: str) -> str:
    """Connect, and describe the workers, such as "2 workers with 4 threads"; DeviceError if that fails.

    The workers load what they will need, so that the first slice of a job does not wait for it.
    """
    with connected(address) as client:
        threads = client.nthreads()
        versions = _answers(client, _version)
        from .. import __version__

        others = sorted({found for found in versions.values() if found != __version__})
        if others:
            raise DeviceError(
                f"Workers of {address} have version {' and '.join(others)} of napari-restore-rwkv, and this is "
                f"{__version__}: install the same version everywhere."
            )
    if not threads:
        return f"A scheduler without workers: start some with  dask worker {address}"
    return f"{counted(len(threads), 'worker')} with {counted(sum(threads.values()), 'thread')}"


def refuse_hidden_files(client: Any, paths: Sequence[str]) -> None:
    """Raise OutputError with the first file or folder that a worker does not see under its name here."""
    for worker, unseen in sorted(_answers(client, _missing, list(paths)).items()):
        if unseen:
            raise OutputError(
                f"The worker at {worker} does not see {unseen[0]}: choose paths that all workers see under the same "
                "name, such as those of a shared folder."
            )


def wind_down(client: Any, in_flight: Collection[Any], output: str, under_way: Callable[[str], int]) -> None:
    """Withdraw what workers have not started, and return once none writes to the output, or after two minutes.

    Otherwise a process that continues the job would write the same files. `under_way` is called on each worker.
    """
    end = time.monotonic() + _LAST_SLABS_S
    # Whether it ends by itself or because the scheduler did, nothing more can be done here.
    with contextlib.suppress(OSError, TimeoutError, ValueError, CancelledError, DeviceError):
        client.cancel(list(in_flight))
        while time.monotonic() < end and any(_answers(client, under_way, output).values()):
            time.sleep(_ASKED_EVERY_S)


def _answers(client: Any, question: Any, *arguments: Any) -> dict[str, Any]:
    """Ask every worker; DeviceError if one of them cannot run this program."""
    found: dict[str, Any] = client.run(question, *arguments, on_error="return")
    for worker, answer in found.items():
        if isinstance(answer, ImportError | AttributeError):
            raise DeviceError(
                f"The worker at {worker} cannot run this program ({answer}): install the same version of "
                "napari-restore-rwkv there."
            )
    # A worker that was lost meanwhile gives no answer.
    return {worker: answer for worker, answer in found.items() if not isinstance(answer, BaseException)}


def _version() -> str:
    from .. import __version__
    from . import restore_slabs  # noqa: F401 - takes seconds, which the first slice need not wait for

    return __version__


def _missing(paths: list[str]) -> list[str]:
    return [path for path in paths if not Path(path).exists()]
