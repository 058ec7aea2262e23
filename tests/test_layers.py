"""Imports run downwards: a module knows the floors below its own, and its own folder."""

import ast
from pathlib import Path

import pytest

FLOORS = [
    ["errors", "sizes"],
    ["settings"],
    ["interfaces"],
    ["ops"],
    ["runtime"],
    [
        "models",
        "losses",
        "data",
        "autoencoders",
        "features",
        "metrics",
        "sample",
        "pages",
        "doctor",
    ],
    ["registry", "references"],
    ["config"],
    ["cost"],
    ["snapshot", "prepare", "plan"],
    ["evaluation", "scale"],
    ["unpickle"],
    ["look", "train", "info", "convert"],
    ["comparison", "report"],
    ["options"],
    ["arguments"],
    ["__init__"],
    ["cli"],
    ["__main__"],
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
SOURCE = Path(__file__).parents[1] / "src" / "scalegan"
# Without PyTorch, so that `--help` and a mistake in a config answer at once.
LIGHT = [
    "errors",
    "sizes",
    "settings",
    "config",
    "options",
    "arguments",
    "cli",
    "__init__",
    "__main__",
]


def room(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return parts[0]


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


def violations(path: Path, source: str) -> list[str]:
    own = room(path)
    rooms = {
        parts[1] if len(parts) > 1 and parts[1] in FLOOR_OF else "__init__"
        for name in imports(ast.parse(source))
        if (parts := name.split("."))[0] == "scalegan"
    }
    above = [other for other in sorted(rooms) if other != own and FLOOR_OF[other] >= FLOOR_OF[own]]
    return [f"{own} (floor {FLOOR_OF[own]}) must not import {above}"] if above else []


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: path.stem)
def test_imports_run_downwards(path: Path) -> None:
    assert room(path) in FLOOR_OF, f"give `{room(path)}` a floor"
    assert violations(path, path.read_text()) == []


def test_an_upward_import_is_found() -> None:
    source = "def f():\n    from scalegan.models.gat import GATGenerator"
    path = SOURCE / "losses" / "mng.py"
    assert violations(path, source) == ["losses (floor 5) must not import ['models']"]


@pytest.mark.parametrize("name", LIGHT)
def test_parsing_needs_no_torch(name: str) -> None:
    tree = ast.parse((SOURCE / f"{name}.py").read_text())
    at_import = {name for node in tree.body for name in imports(ast.Module([node], []))
                 if isinstance(node, ast.Import | ast.ImportFrom)}  # fmt: skip
    assert not {name for name in at_import if name.split(".")[0] in ("torch", "jaxtyping")}


def test_no_file_is_too_long() -> None:
    long = {p.name: n for p in SOURCE.rglob("*.py") if (n := len(p.read_text().splitlines())) > 450}
    assert not long
