import inspect
import re
import typing
from typing import Any

import pytest

from scalegan.config import models as sizes
from scalegan.config import schema as settings
from scalegan.config.objective import AlignmentConfig, ObjectiveConfig
from scalegan.data.tables import SOURCES
from scalegan.features.tables import TEACHERS
from scalegan.losses.tables import ADVERSARIAL
from scalegan.models.tables import ARCHITECTURES


@pytest.mark.parametrize(
    ("table", "kind", "field"),
    [
        (ADVERSARIAL, ObjectiveConfig, "adversarial"),
        (SOURCES, settings.DataConfig, "source"),
        (ARCHITECTURES, sizes.GATConfig, "architecture"),
    ],
)
def test_the_help_of_a_name_lists_what_its_table_holds(
    table: dict[str, Any], kind: type, field: str
) -> None:
    sentence = inspect.getsource(kind).split(f"    {field}: ")[1].split('"""')[1]
    for name in table:
        assert re.search(rf"(?<![\w-]){name}(?![\w-])", sentence), name


def test_the_named_teachers_are_those_of_the_table() -> None:
    allowed = typing.get_args(typing.get_type_hints(AlignmentConfig)["teacher"])
    assert set(allowed) == {"", *TEACHERS}


def test_every_architecture_has_sizes_and_networks() -> None:
    assert sizes.MODELS.keys() == ARCHITECTURES.keys()
    for name, kind in sizes.MODELS.items():
        assert kind().architecture == name
