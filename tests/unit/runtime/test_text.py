import pytest

from scalegan.runtime.text import aligned, clock, rough_duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1.0, "0:00"), (39.9, "0:39"), (3599.0, "59:59"), (3600.0, "1:00:00"), (7505.0, "2:05:05")],
)
def test_a_duration_as_on_a_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1.0, "1 min"), (720.0, "12 min"), (11_100.0, "3 h 5 min"), (198_000.0, "2 d 7 h")],
)
def test_a_rough_duration_has_two_units_at_most(seconds: float, text: str) -> None:
    assert rough_duration(seconds) == text


def test_columns_are_aligned_and_lines_end_without_spaces() -> None:
    assert aligned([("a", "long"), ("longer", "b")]) == ["a       long", "longer  b"]
    assert aligned([("a", "long"), ("longer", "b")], ">") == ["a       long", "longer     b"]
    assert aligned([]) == []
