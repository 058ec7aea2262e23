import pytest

from scalegan.runtime import progress
from scalegan.runtime.progress import Bar


def test_lines_without_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Bar(100, "step", 32) as bar:
        for _ in range(30):
            now[0] += 0.5
            bar.advance(note="loss 1.5")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["step 21/100  64 images/s  loss 1.5  0:39 left"]
