"""No code is loaded from the folder in which a program happens to be started: scans that came from elsewhere lie there.

Python puts that folder first on its search path for ``-m`` and ``-c``, and for an empty entry of PYTHONPATH, so that a
file named like a library beside the scans would run in its place.
"""

from __future__ import annotations

import os
import sys


def python_command(module: str, *arguments: str) -> list[str]:
    """Return what starts a module in a Python of its own; to be run in `python_environment`."""
    # -I would hide what is installed for the user alone as well.
    return [sys.executable, "-P", "-m", module, *arguments]


def python_environment() -> dict[str, str]:
    """Return the environment for another Python, without entries of PYTHONPATH that mean the working folder."""
    environment = dict(os.environ)
    absolute, _ = _python_path()
    environment.pop("PYTHONPATH", None)
    return environment | ({"PYTHONPATH": os.pathsep.join(absolute)} if absolute else {})


def forget_working_folder(started_by_module: bool = False) -> None:
    """Take the working folder off this process's search path.

    Parameters
    ----------
    started_by_module
        Whether ``python -m`` started it, which puts the folder first under its full name.
    """
    if started_by_module and not sys.flags.safe_path and sys.path and sys.path[0] == os.getcwd():
        del sys.path[0]
    absolute, others = _python_path()
    # Python has written them out in full by now.
    unwanted = {os.path.abspath(entry) for entry in others} - set(absolute)
    # In place, because libraries may hold the list.
    sys.path[:] = [entry for entry in sys.path if os.path.isabs(entry) and entry not in unwanted]


def _python_path() -> tuple[list[str], list[str]]:
    """Return the entries of PYTHONPATH: those that name a folder in full, and those that depend on the working one."""
    words = os.environ.get("PYTHONPATH")
    entries = words.split(os.pathsep) if words else []
    return [entry for entry in entries if os.path.isabs(entry)], [
        entry for entry in entries if not os.path.isabs(entry)
    ]
