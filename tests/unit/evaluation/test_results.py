from dataclasses import replace
from pathlib import Path

import pytest

from scalegan.errors import ConfigError, DataError
from scalegan.evaluation.measure import Number
from scalegan.evaluation.results import (
    diff,
    read_result,
    results_table,
    worst_classes,
    write_result,
)
from scalegan.runtime.files import read_json, write_json
from tests.unit.evaluation.test_measure import images, run


@pytest.fixture(scope="module")
def numbers() -> list[Number]:
    return list(run(["fid", "pr"], images(80), images(70, 1), with_floor=True).values())


def test_what_is_written_is_read_back(numbers: list[Number], tmp_path: Path) -> None:
    write_result(tmp_path / "a.json", numbers)
    assert read_result(tmp_path / "a.json") == numbers


def test_a_result_of_another_format_is_refused(numbers: list[Number], tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    write_result(path, numbers)
    write_json(path, read_json(path) | {"format": 1})
    with pytest.raises(DataError, match=r"old.json` has format 1; this version reads 2$"):
        read_result(path)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"format": 2, "numbers": [{"x": 1}]}'])
def test_what_is_no_result_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match="is no result of `scalegan evaluate`"):
        read_result(tmp_path / "a.json")


def test_two_results_are_shown_side_by_side(numbers: list[Number], tmp_path: Path) -> None:
    write_result(tmp_path / "a.json", numbers)
    changed = [replace(n, value=n.value + 0.5) for n in numbers if n.value is not None]
    write_result(tmp_path / "b.json", changed)
    head, *rows = diff(tmp_path / "a.json", tmp_path / "b.json")
    assert head.split() == ["a.json", "b.json", "difference"]
    assert [row.split()[-1] for row in rows] == ["0.5"] * 3


def test_results_of_different_protocols_are_not_compared(
    numbers: list[Number], tmp_path: Path
) -> None:
    write_result(tmp_path / "a.json", numbers)
    write_result(
        tmp_path / "b.json", [replace(n, protocol=n.protocol | {"num_fake": 9}) for n in numbers]
    )
    with pytest.raises(ConfigError, match="its `num_fake` is 70 in the first and 9 in the second"):
        diff(tmp_path / "a.json", tmp_path / "b.json")
    write_result(tmp_path / "c.json", [])
    with pytest.raises(ConfigError, match="no metric in common"):
        diff(tmp_path / "a.json", tmp_path / "c.json")


def test_a_column_of_real_images_only_where_they_were_measured(numbers: list[Number]) -> None:
    assert "real images" in results_table(numbers)[0]
    assert "real images" not in results_table([replace(n, floor=None) for n in numbers])[0]


def test_the_worst_classes_are_named() -> None:
    (number,) = run(["per-class"], images(80), images(70, 1)).values()
    distances = {0: 1.0, 1: 3.0}
    assert worst_classes(replace(number, details={"distances": distances})) == [
        "worst classes: 1 3, 0 1"
    ]
    assert worst_classes(replace(number, details={})) == []
