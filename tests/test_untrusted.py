"""Names and sizes in untrusted files never lead outside."""

import os

import pytest

from napari_restore_rwkv.untrusted import UnsafeNameError, json_object, path_inside, read_regular, toml_table


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "/etc/passwd",
        "a/../../x",
        "",
        ".",
        "a//b",
        "a/",
        "C:x",
        "\\\\server\\x",
        "..\\x",
        "a\0b",
        "a\nb",
    ],
)
def test_a_name_that_leads_outside_is_refused(tmp_path, name):
    with pytest.raises(
        UnsafeNameError, match=r"leads outside its folder|characters that are not allowed in file names"
    ):
        path_inside(tmp_path, name)


@pytest.mark.parametrize("name", [None, 5, ["a"], b"a", {"a": 1}, True])
def test_only_text_is_a_name(tmp_path, name):
    with pytest.raises(UnsafeNameError, match="where a file name is needed"):
        path_inside(tmp_path, name)


def test_names_inside_are_paths_whether_they_exist_or_not(tmp_path):
    assert path_inside(tmp_path, "0/c/1/0/0") == tmp_path / "0" / "c" / "1" / "0" / "0"
    assert path_inside(tmp_path, "..a/b..") == tmp_path / "..a" / "b.."


def test_only_listed_names_pass_if_there_is_a_list(tmp_path):
    assert path_inside(tmp_path, "a", {"a"}) == tmp_path / "a"
    with pytest.raises(UnsafeNameError, match='names "b", which is not among the files that belong to it'):
        path_inside(tmp_path, "b", {"a"})


def test_links_may_lead_inside_but_not_outside(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (inside / "out").symlink_to(outside)
    (inside / "file").symlink_to(outside / "file")
    (inside / "own").symlink_to(inside)
    (inside / "ring").symlink_to(inside / "ring")
    assert path_inside(inside, "own/x") == inside / "own" / "x"
    for name in ("out/x", "file", "own/out/x"):
        with pytest.raises(UnsafeNameError, match=r"a link that leads outside its folder"):
            path_inside(inside, name)
    with pytest.raises(UnsafeNameError, match=r"cannot be followed|leads out"):
        path_inside(inside, "ring/x")


def test_the_folder_itself_may_be_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert path_inside(tmp_path / "link", "x") == tmp_path / "link" / "x"


def test_a_pipe_or_a_folder_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe is not a regular file"):
        read_regular(tmp_path / "pipe")
    with pytest.raises(ValueError, match="is not a regular file"):
        read_regular(tmp_path)


def test_a_large_file_is_not_read(tmp_path):
    (tmp_path / "large").write_bytes(b"x" * 11)
    with pytest.raises(ValueError, match="large has 11 bytes; at most 10 are expected"):
        read_regular(tmp_path / "large", 10)
    assert read_regular(tmp_path / "large", 11) == b"x" * 11


@pytest.mark.parametrize("content", [b"", b"[]", b"5", b"{", b"\xff\xfe\x00", b"[" * 100_000, b'{"a":' * 100_000])
def test_json_of_another_kind_is_a_value_error(content):
    with pytest.raises(ValueError, match=r"."):
        json_object(content)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = " + "[" * 100_000, "nested too deeply"),
        ("a." * 60_000 + "a = 1", "too many parts"),
        ("a = [{b = 0x" + "f" * 6000 + "}]", "more than 64 bits"),
        ("a = -9223372036854775809", "more than 64 bits"),
        ("a = 1" + "0" * 5000, "digits"),
    ],
)
def test_toml_that_keeps_the_parser_busy_or_holds_endless_numbers_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        toml_table(text.encode())


def test_toml_is_read():
    assert toml_table(b"a = [1, 2.5]\n[b]\nc = -9223372036854775808\n") == {"a": [1, 2.5], "b": {"c": -(1 << 63)}}
