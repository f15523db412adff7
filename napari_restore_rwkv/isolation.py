"""No code is loaded from the folder in which a program happens to be started: it may contain scans from elsewhere.

Python puts that folder first on its search path for ``-m`` and ``-c``, and for an empty entry of PYTHONPATH, so a file
beside the scans that is named like a library would run in its place.
"""

from __future__ import annotations

import os
import sys


def python_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module in a separate Python; to be run in `python_environment`."""
    # -I would also hide packages installed only for the user.
    return [sys.executable, "-P", "-m", module, *arguments]


def python_environment() -> dict[str, str]:
    """Return the environment for another Python, without entries of PYTHONPATH that refer to the working folder."""
    environment = dict(os.environ)
    absolute, _ = _python_path()
    environment.pop("PYTHONPATH", None)
    return environment | ({"PYTHONPATH": os.pathsep.join(absolute)} if absolute else {})


def forget_working_folder(started_by_module: bool = False) -> None:
    """Remove the working folder from this process's search path.

    Parameters
    ----------
    started_by_module
        Whether ``python -m`` started it, which puts the folder first under its full name.
    """
    if started_by_module and not sys.flags.safe_path and sys.path and sys.path[0] == working_folder():
        del sys.path[0]
    absolute, others = _python_path()
    # Python has made them absolute by now.
    unwanted = {os.path.abspath(entry) for entry in others if working_folder()} - set(absolute)
    # In place, because libraries may hold a reference to the list.
    sys.path[:] = [entry for entry in sys.path if os.path.isabs(entry) and entry not in unwanted]


def working_folder() -> str | None:
    """Return the working folder; None if it has been deleted."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None


def _python_path() -> tuple[list[str], list[str]]:
    """Return the entries of PYTHONPATH: absolute ones, and those that depend on the working folder."""
    words = os.environ.get("PYTHONPATH")
    entries = words.split(os.pathsep) if words else []
    return [entry for entry in entries if os.path.isabs(entry)], [
        entry for entry in entries if not os.path.isabs(entry)
    ]
