"""Results are shared between people: a forged record or link must not cause reads or writes outside the result."""

import json
import math
import os
import shutil

import pytest
from small_jobs import SLABS, begin, do, shards, stop_after

from napari_restore_rwkv.errors import OutputError
from napari_restore_rwkv.jobs.audit import finalize, verify
from napari_restore_rwkv.jobs.ledger import Ledger
from napari_restore_rwkv.jobs.record import checked
from napari_restore_rwkv.progress import finish
from napari_restore_rwkv.untrusted import json_object


@pytest.fixture(scope="session")
def begun_once(tmp_path_factory):
    path = tmp_path_factory.mktemp("begun") / "restored.ome.zarr"
    stop_after(begin(path), 2)
    return path


@pytest.fixture
def stopped(begun_once, path):
    """A job with two of its slabs saved."""
    shutil.copytree(begun_once, path)
    return path


def forge(path, change):
    """Change the record as somebody who knows its digest would."""
    file = path / "job" / "job.json"
    content = json.loads(file.read_text())
    del content["check"]
    change(content)
    file.write_text(json.dumps(checked(content)))


def forge_line(path, change):
    file = path / "job" / "done.jsonl"
    first, *others = file.read_text().splitlines(keepends=True)
    line = json.loads(first)
    del line["check"]
    change(line)
    file.write_text(json.dumps(checked(line)) + "\n" + "".join(others))


def everything_outside(path):
    return sorted(str(file.relative_to(path.parent)) for file in path.parent.iterdir() if file != path)


@pytest.mark.parametrize("name", ["../planted", "{absolute}", "0/../../planted", "job/other.json", "0\\zarr.json"])
@pytest.mark.parametrize("use", ["finalize", "resume", "verify"])
def test_a_record_that_names_another_file_is_refused_and_nothing_is_written(stopped, tmp_path, name, use):
    name = name.format(absolute=tmp_path / "planted")
    forge(stopped, lambda content: content["metadata"].update({name: "planted"}))
    before = everything_outside(stopped)
    with pytest.raises(OutputError, match=r"its record names .* It may have been forged; start over"):
        {
            "finalize": lambda: finish(finalize(stopped)),
            "resume": lambda: do(stopped, resume=True),
            "verify": lambda: finish(verify(stopped)),
        }[use]()
    assert everything_outside(stopped) == before


@pytest.mark.parametrize(
    "layout",
    [
        {"levels": 10**9},
        {"levels": "2"},
        {"slab": 0},
        {"slab": True},
        {"shape": [2**40, 4, 4]},
        {"shape": [4, 4]},
        {"shape": 7},
        {"axis": 3},
        {"dtype": "object"},
        {"dtype": ["int16"]},
        {"more": 1},
    ],
)
def test_an_impossible_layout_is_a_damaged_record(stopped, layout):
    forge(stopped, lambda content: content["layout"].update(layout))
    with pytest.raises(OutputError, match=r"its record job.json is damaged"):
        Ledger(stopped)


OF_THE_RIGHT_KIND = {"changes": (None, "text")}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (key, value)
        for key in ("identity", "layout", "record", "changes", "metadata", "schema")
        for value in (None, 5, "text", ["x"], {}, {"x": {"y": []}}, {"tile": "x"}, {"tile": {"size": "64"}})
        if value not in OF_THE_RIGHT_KIND.get(key, ())
    ],
)
def test_values_of_other_types_are_refused_with_a_message(stopped, key, value):
    forge(stopped, lambda content: content.update({key: value}))
    with pytest.raises(OutputError, match=r"damaged|another version|started as a different job|its record names"):
        do(stopped, resume=True)


def test_metadata_that_do_not_fit_the_layout_are_a_damaged_record(stopped):
    forge(stopped, lambda content: content["layout"].update(shape=[content["layout"]["shape"][0], 17, 18]))
    with pytest.raises(OutputError, match=r"its record job\.json is damaged"):
        do(stopped, resume=True)


def inner(array):
    return array["codecs"][0]["configuration"]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("0/zarr.json", lambda array: array.update(data_type="uint8")),
        ("0/zarr.json", lambda array: array.update(fill_value=7)),
        ("0/zarr.json", lambda array: array["chunk_key_encoding"].update(name="v2")),
        ("0/zarr.json", lambda array: inner(array).update(chunk_shape=[1, 1, 1])),
        ("0/zarr.json", lambda array: inner(array)["codecs"].insert(0, {"name": "numcodecs.bitround"})),
        ("0/zarr.json", lambda array: inner(array)["codecs"].clear()),
        ("zarr.json", lambda group: group["attributes"]["restore_rwkv"].update(spacing_mm=[1, 1, 1])),
        ("zarr.json", lambda group: group["attributes"]["ome"].clear()),
    ],
)
def test_metadata_that_would_store_other_voxels_are_refused(stopped, name, change):
    content = json.loads((stopped / name).read_text())
    change(content)
    text = json.dumps(content)
    (stopped / name).write_text(text)
    forge(stopped, lambda record: record["metadata"].update({name: text}))
    before = shards(stopped)
    with pytest.raises(OutputError, match=rf"cannot be continued: {name} in its record is not as this program writes"):
        do(stopped, resume=True)
    assert shards(stopped) == before


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_does_not_know_are_damaged_records(stopped, number):
    forge_line(stopped, lambda line: line.update(more=number))
    assert finish(verify(stopped)).damaged_lines == 1
    forge(stopped, lambda content: content["record"].update(more=number))
    with pytest.raises(OutputError, match=r"its record job\.json is damaged"):
        Ledger(stopped)


def test_numbers_too_large_for_a_computer_are_not_read_as_infinite():
    assert json_object('{"a": 1.5e3}', strict=True) == {"a": 1500.0}
    with pytest.raises(ValueError, match="a number in it is 1e999"):
        json_object('{"a": 1e999}', strict=True)


def test_a_record_that_names_other_weights_is_refused(stopped):
    forge(stopped, lambda content: content["record"].update(weights="the best there are"))
    with pytest.raises(OutputError, match=r"a different job \(record weights: the best there are, now small\)"):
        do(stopped, resume=True)


def test_tiles_that_the_job_was_not_asked_for_are_refused(stopped):
    forge(stopped, lambda content: content["identity"].update(tile={"size": 8, "overlap": 0}))
    with pytest.raises(OutputError, match=r"was started as a different job \(tile size: 8, now not known"):
        do(stopped, resume=True)


@pytest.mark.parametrize(
    "change",
    [
        {"files": {"../../secret": "0" * 64}},
        {"files": {"/dev/zero": "0" * 64}},
        {"files": []},
        {"unit": SLABS},
        {"unit": -1},
        {"unit": "0"},
        {"slices": []},
        {"slices": ["x"] * 4},
    ],
)
def test_a_line_about_other_files_is_damaged_and_its_slab_is_redone(stopped, undisturbed, change):
    forge_line(stopped, lambda line: line.update(change))
    report = finish(verify(stopped))
    assert (report.damaged_lines, len(report.missing)) == (1, SLABS - 1)
    do(stopped, resume=True)
    assert shards(stopped) == shards(undisturbed)
    assert finish(verify(stopped)).sound


@pytest.mark.parametrize("name", ["job", "0", "0/c", "job/job.json", "job/done.jsonl", "job/lock", "job/complete.json"])
def test_links_to_outside_are_refused_and_nothing_is_written_there(stopped, tmp_path, name):
    place, kept = stopped / name, tmp_path / "elsewhere"
    if place.exists():
        shutil.move(place, kept)
    else:
        kept.write_text("mine")
    place.symlink_to(kept)
    before = contents(kept)
    try:
        do(stopped, resume=True)
    except OutputError as error:
        told = str(error)
    else:
        told = ""
    assert contents(kept) == before
    # Or it was written by renaming, which puts a file in the place of the link.
    assert "link that leads out" in told or "cannot be opened" in told or not place.is_symlink()


@pytest.mark.parametrize("name", ["job/job.json", "job/done.jsonl", "job/complete.json", "zarr.json", "0/c/0/0/0"])
def test_a_pipe_in_place_of_a_file_does_not_block(path, undisturbed, name):
    shutil.copytree(undisturbed, path)
    (path / name).unlink()
    os.mkfifo(path / name)
    if name in {"job/job.json", "job/done.jsonl"}:
        with pytest.raises(OutputError, match=r"not a regular file|is damaged"):
            finish(verify(path))
    else:
        assert not finish(verify(path)).sound


def contents(place):
    return {str(file): file.read_bytes() for file in [place, *place.rglob("*")] if file.is_file()}


def test_a_result_without_write_permission_is_refused_with_a_message(stopped, monkeypatch):
    real = os.open

    def refuse(path, flags, *more, **options):
        # An administrator may write every file, so the refusal is played.
        if flags & (os.O_RDWR | os.O_WRONLY):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, flags, *more, **options)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(
        OutputError, match=r"cannot be written: its lock file lock cannot be opened \(permission denied\)"
    ):
        do(stopped, resume=True)
