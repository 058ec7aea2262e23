import importlib.metadata as metadata
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from scalegan.cli import main
from scalegan.runtime import machine
from scalegan.runtime.machine import Finding, packages, report
from scalegan.runtime.world import World
from tests.support.fork_server import fork_server

INSTALLED = {"torch": "2.13.0+cpu", "numpy": "1.9", "pillow": "10.3"}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def version_of(name: str) -> str:
        if name not in INSTALLED:
            raise metadata.PackageNotFoundError(name)
        return INSTALLED[name]

    monkeypatch.setattr(metadata, "version", version_of)


def test_packages_are_compared_number_by_number(installed: None) -> None:
    found = packages(["torch>=2.8", "numpy>=1.26", "pillow", "tyro>=0.9"])
    assert found == [
        Finding("torch", "2.13.0+cpu"),
        Finding("numpy", "1.9, needs >=1.26", 'pip install --upgrade "numpy>=1.26"', "NO"),
        Finding("pillow", "10.3"),
        Finding("tyro", "not installed", 'pip install --upgrade "tyro>=0.9"', "NO"),
    ]


def test_a_missing_optional_package_names_its_command_and_is_no_failure(
    installed: None,
) -> None:
    requirements = ['pillow>=10; extra == "a"', 'av>=1; extra == "b"', 'scalegan[a]; extra == "b"']
    requirements += ['numpy>=2; extra == "b"', 'pytest; extra == "dev"']
    found = packages(requirements)
    assert found == [
        Finding("pillow", "10.3"),
        Finding("av", "not installed (optional: pip install scalegan[b])", mark="--"),
        Finding("numpy", "1.9, needs >=2 (optional: pip install scalegan[b])", mark="--"),
    ]
    assert all(finding.is_fine for finding in found) and report(found)[-1] == "ready"


def test_sources_without_an_installation_are_no_failure() -> None:
    assert all(finding.is_fine for finding in packages([]))


def test_the_report_ends_with_what_is_wrong() -> None:
    lines = report([Finding("a", "1"), Finding("b", "2", "do this", "NO")])
    assert lines[0].startswith("ok  a") and lines[1].startswith("NO  b")
    assert lines[2].strip() == "-> do this" and lines[3] == "not ready: b"
    assert report([Finding("a", "1")])[-1] == "ready"


def test_a_full_disk_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10**12, 10**12, 10**8))
    found = machine.examine(World(0, 1, torch.device("cpu")), tmp_path)
    assert [finding.name for finding in found if not finding.is_fine] == ["disk"]


def test_more_threads_than_cores_get_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: {0}, raising=False)
    monkeypatch.setattr(machine.torch, "get_num_threads", lambda: 64)
    found = machine.examine(World(0, 1, torch.device("cpu")), Path())
    threads = next(finding for finding in found if finding.name == "threads")
    assert threads.value == "64 threads of torch on 1 cores" and "OMP_NUM_THREADS" in threads.advice


def test_the_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_requirements", lambda: ["torch>=2.8"])
    with pytest.raises(SystemExit) as stop:
        main(["doctor"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.splitlines()[-1] == "ready"
    monkeypatch.setattr(machine, "_requirements", lambda: ["torch>=99"])
    with pytest.raises(SystemExit) as stop:
        main(["doctor"])
    assert stop.value.code == 2
    assert "not ready: torch" in capsys.readouterr().out


def test_links_between_two_ranks() -> None:
    first, second = fork_server().run(["doctor", "--device", "cpu"], ranks=2)
    assert "2 ranks by gloo: right sums of 4 MB in" in first
    assert first.count("python ") == 1 and "python " not in second  # the first rank alone speaks
