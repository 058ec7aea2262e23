from pathlib import Path

import pytest

from scalegan.runtime.files import (
    MANIFEST,
    atomic_file,
    atomic_folder,
    clear_drafts,
    damage,
    digest,
    read_json,
    write_json,
)


class Interruption(Exception):
    pass


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of two files, written whole."""
    with atomic_folder(tmp_path / "deep" / "folder") as draft:
        (draft / "a.txt").write_text("first")
        (draft / "b.bin").write_bytes(bytes(1000))
    return tmp_path / "deep" / "folder"


def test_digest_of_a_known_text(tmp_path: Path) -> None:
    (tmp_path / "abc").write_text("abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest(tmp_path / "abc") == expected


def test_atomic_folder_writes_a_manifest(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", "b.bin", MANIFEST]
    assert read_json(folder / MANIFEST)["a.txt"] == digest(folder / "a.txt")
    assert damage(folder) is None
    assert list(folder.parent.iterdir()) == [folder]


def test_atomic_folder_leaves_nothing_on_failure(tmp_path: Path) -> None:
    with pytest.raises(Interruption), atomic_folder(tmp_path / "folder") as draft:
        (draft / "a.txt").write_text("first")
        assert not (tmp_path / "folder").exists()
        raise Interruption
    assert list(tmp_path.iterdir()) == []


def test_atomic_folder_replaces_only_when_complete(folder: Path) -> None:
    with pytest.raises(Interruption), atomic_folder(folder) as draft:
        (draft / "c.txt").write_text("new")
        raise Interruption
    assert (folder / "a.txt").read_text() == "first" and damage(folder) is None
    with atomic_folder(folder) as draft:
        (draft / "c.txt").write_text("new")
    assert sorted(path.name for path in folder.iterdir()) == ["c.txt", MANIFEST]


def test_atomic_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    with pytest.raises(Interruption), atomic_file(path) as draft:
        draft.write_text("half")
        raise Interruption
    assert list(path.parent.iterdir()) == []
    for text in ("one", "two"):
        with atomic_file(path) as draft:
            draft.write_text(text)
        assert path.read_text() == text and list(path.parent.iterdir()) == [path]


def test_clear_drafts_removes_what_was_left_unfinished(folder: Path) -> None:
    (folder.parent / ".step.17.draft").mkdir()
    (folder.parent / ".step.17.draft" / "a").write_text("half")
    (folder.parent / ".curves.17.draft.png").write_text("half")
    clear_drafts(folder.parent)
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize("place", [0, 500, 999])
def test_a_flipped_bit_is_noticed(folder: Path, place: int) -> None:
    content = bytearray((folder / "b.bin").read_bytes())
    content[place] ^= 1
    (folder / "b.bin").write_bytes(content)
    assert damage(folder) == "`b.bin` does not match its digest"


def test_a_cut_file_is_noticed(folder: Path) -> None:
    (folder / "a.txt").write_text("firs")
    assert damage(folder) == "`a.txt` does not match its digest"


@pytest.mark.parametrize("name", ["a.txt", MANIFEST])
def test_a_missing_file_is_noticed(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert damage(folder) == f"`{name}` is missing"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1, 2]", b"null", b"3"])
def test_a_nonsense_manifest_is_noticed(folder: Path, content: bytes) -> None:
    (folder / MANIFEST).write_bytes(content)
    assert damage(folder).startswith(f"`{MANIFEST}` cannot be read: ")


def test_a_file_that_the_manifest_does_not_know_is_no_damage(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    assert damage(folder) is None


def test_json_round_trip(tmp_path: Path) -> None:
    value = {"name": "grüße", "numbers": [1, 2.5], "nothing": None}
    write_json(tmp_path / "value.json", value)
    assert read_json(tmp_path / "value.json") == value
