import pytest

from scalegan.runtime import progress
from scalegan.runtime.progress import Bar, follow


def test_everything_is_passed_on_in_silence(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(follow(range(5), 5, "images")) == list(range(5))
    assert list(follow([], None, "images")) == []
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("total", "expected"), [(3, ["3/3 images", "/s", "0:00 left"]), (None, ["3 images", "/s"])]
)
def test_long_work_says_how_far_it_is(
    total: int | None, expected: list[str],
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
    assert list(follow("abc", total, "images")) == ["a", "b", "c"]
    last = capsys.readouterr().err.splitlines()[-1]
    assert all(part in last for part in expected)
    assert list(follow("abc", total, "images", is_shown=False)) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""


def test_work_can_be_left_early() -> None:
    for item in follow(iter(range(10)), 10, "images"):
        if item == 3:
            break
    assert item == 3


def test_lines_without_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Bar(100, "steps", images_per_unit=32) as bar:
        for _ in range(30):
            now[0] += 0.5
            bar.advance(note="loss 1.5")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["21/100 steps  64 images/s  loss 1.5  0:39 left"]
