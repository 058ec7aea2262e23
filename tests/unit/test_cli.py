"""The table of commands, help without PyTorch, and what exit codes and errors say."""

import os
import subprocess
import sys

import pytest

import scalegan
from scalegan import cli
from scalegan.cli import COMMANDS, SYNONYMS, command_of, main
from scalegan.errors import ConfigError


def exit_code(*words: str) -> int | str | None:
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    return stop.value.code


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_function(name: str) -> None:
    assert command_of(name).__name__ == f"{name.split()[0]}_command"


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_help_lists_every_command_with_its_sentence(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    main(words)
    lines = capsys.readouterr().out.splitlines()
    for name, (usage, about) in COMMANDS.items():
        assert any(line.startswith(f"  {name} {usage}") and about in line for line in lines)
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("words", ["sample --help", "help sample", "sample -h", "sample x --help"])
def test_help_of_a_command_is_asked_for_in_any_way(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(*words.split()) == 0
    assert capsys.readouterr().out.startswith("usage: scalegan sample [-h] [OPTIONS] RUN\n")


@pytest.mark.parametrize("words", ["classifier --help", "help classifier train"])
def test_help_of_a_command_of_two_words(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(*words.split()) == 0
    assert capsys.readouterr().out.startswith("usage: scalegan classifier train ")


@pytest.mark.parametrize("word", ["-V", "--version"])
def test_version(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([word])
    assert capsys.readouterr().out == f"{scalegan.__version__}\n"


def test_no_help_imports_torch() -> None:
    code = (
        "import contextlib, sys\nfrom scalegan.cli import COMMANDS, main\nmain(['--help'])\n"
        "assert not {'torch', 'tyro', 'pydantic'} & set(sys.modules)\n"
        "for name in COMMANDS:\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        main([*name.split(), '--help'])\n"
        "assert not {'torch', 'matplotlib', 'jaxtyping'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: scalegan ") == 1 + len(COMMANDS)


def test_synonyms_are_no_commands_and_lead_to_commands() -> None:
    firsts = {name.split()[0] for name in COMMANDS} | {"--version"}
    assert all(meant.split()[0] in firsts for meant in SYNONYMS.values())
    assert not set(SYNONYMS) & firsts


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ConfigError("it is bad", "mend it"), 2, "error: it is bad\nhint: mend it\n"),
        (ConfigError("it is bad"), 2, "error: it is bad\n"),
        (KeyboardInterrupt(), 130, ""),
        (FileNotFoundError(2, "No such file or directory", "a.json"), 2,
         "error: `a.json`: No such file or directory\n"
         "hint: check the folder and its permissions; what was complete before is unharmed\n"),
    ],
)  # fmt: skip
def test_errors_become_sentences_and_codes(
    error: BaseException, code: int, text: str,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def fail(_: list[str]) -> int:
        raise error

    monkeypatch.setattr(cli, "command_of", lambda _: fail)
    assert exit_code("info", "x") == code
    assert capsys.readouterr().err == text
    if code == 2:
        with pytest.raises(type(error)):
            main(["--debug", "info", "x"])


def test_a_closed_pipe_ends_with_its_code() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    code = "import sys; from scalegan.cli import main; sys.stdout.reconfigure(line_buffering=True)"
    command = [sys.executable, "-c", f"{code}; main(['--help'])"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")
