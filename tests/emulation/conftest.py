"""Emulators of the CUDA source, each compiled once."""

import pytest

from .emulated import compile_emulator

# Every access as it is written, and compiled in a third of the time.
WATCHED = ("-O0", "-g")


@pytest.fixture(scope="session")
def emulator(tmp_path_factory):
    """The library for this process."""
    return compile_emulator(tmp_path_factory.mktemp("emulator"))


@pytest.fixture(scope="session")
def memory_watcher(tmp_path_factory):
    """A program that ends at an access out of bounds and at undefined behaviour."""
    options = ("-fsanitize=address,undefined", "-fsanitize-sections=shared_memory", "-fno-sanitize-recover=all")
    return compile_emulator(tmp_path_factory.mktemp("memory"), program=True, options=(*WATCHED, *options))


@pytest.fixture(scope="session")
def race_watcher(tmp_path_factory):
    """A program that reports accesses that no barrier orders."""
    return compile_emulator(tmp_path_factory.mktemp("race"), program=True, options=(*WATCHED, "-fsanitize=thread"))
