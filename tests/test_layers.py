"""Imports run downwards, to floors below or within a folder, and never in a circle."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

FLOORS = [
    ["interfaces", "errors", "version"],
    ["layers", "runtime"],
    ["config"],
    ["models", "losses", "autoencoders", "features", "metrics"],
    ["inference", "data"],
    ["evaluation", "planning", "convert"],
    ["train"],
    ["reports", "studies"],
    ["commands"],
    ["cli", "__init__", "__main__"],
]
# A study is shown on the page of a comparison; nothing of a floor else imports its neighbors.
BESIDE = {"studies": ["reports"]}
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS, start=1) for room in rooms}
SOURCE = Path(__file__).parents[1] / "src" / "scalegan"
# Without PyTorch, so that `--help` and a mistake in a config answer at once.
LIGHT = [
    "cli.py",
    "__init__.py",
    "__main__.py",
    "errors.py",
    "version.py",
    "commands/*.py",
    "config/*.py",
]


def module(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module(path): path for path in sorted(SOURCE.rglob("*.py"))}


def imports(tree: ast.AST) -> set[str]:
    """Full names of all imported modules, those inside functions and annotations included."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, "imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def own_imports(source: str) -> set[str]:
    """Modules of this package that a file imports, without the package's name."""
    found = set()
    for name in imports(ast.parse(source)):
        package, *parts = name.split(".")
        if package == "scalegan":
            while parts and ".".join(parts) not in MODULES:
                parts.pop()  # the name of a function or a class
            found.add(".".join(parts) or "__init__")
    return found


def violations(own: str, source: str) -> list[str]:
    room = own.split(".")[0]
    # The front is one room.
    neighbors = FLOORS[-1] if room in FLOORS[-1] else [room, *BESIDE.get(room, [])]
    rooms = {name.split(".")[0] for name in own_imports(source)}.difference(neighbors)
    above = [other for other in sorted(rooms) if FLOOR_OF[other] >= FLOOR_OF[room]]
    return [f"{room} (floor {FLOOR_OF[room]}) must not import {above}"] if above else []


def circle(sources: dict[str, str]) -> list[str]:
    """Files that import each other in a ring, or none."""
    arrows = {name: own_imports(source) - {name} for name, source in sources.items()}
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize("name", MODULES)
def test_imports_run_downwards(name: str) -> None:
    assert name.split(".")[0] in FLOOR_OF, f"give `{name}` a floor"
    assert violations(name, MODULES[name].read_text()) == []


def test_no_files_import_each_other_in_a_circle() -> None:
    assert circle({name: path.read_text() for name, path in MODULES.items()}) == []


def test_an_upward_import_and_a_circle_are_found() -> None:
    source = "def f():\n    from scalegan.models.gat import GATGenerator"
    assert violations("losses.mng", source) == ["losses (floor 4) must not import ['models']"]
    ring = {
        "losses.mng": "from scalegan.losses.view import View",
        "losses.view": "from scalegan.losses import mng",
    }
    assert set(circle(ring)) == {"losses.mng", "losses.view"}


@pytest.mark.parametrize("pattern", LIGHT)
def test_parsing_needs_no_torch(pattern: str) -> None:
    for path in SOURCE.glob(pattern):
        at_import = {name for node in ast.parse(path.read_text()).body
                     if isinstance(node, ast.Import | ast.ImportFrom)
                     for name in imports(ast.Module([node], []))}  # fmt: skip
        heavy = {name for name in at_import if name.split(".")[0] in ("torch", "jaxtyping")}
        assert not heavy, f"{path.name} imports {heavy}"


def test_no_file_is_too_long() -> None:
    long = {p.name: n for p in MODULES.values() if (n := len(p.read_text().splitlines())) > 450}
    assert not long
