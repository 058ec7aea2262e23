import typing
from typing import Any

import pytest

from scalegan.config import models as sizes
from scalegan.config import schema as settings
from scalegan.features.tables import TEACHERS
from scalegan.losses.tables import ADVERSARIAL
from scalegan.models.tables import ARCHITECTURES


@pytest.mark.parametrize(
    ("table", "kind", "field"),
    [
        (ADVERSARIAL, settings.ObjectiveConfig, "adversarial"),
        ({"": None} | TEACHERS, settings.AlignmentConfig, "teacher"),
    ],
)
def test_settings_allow_what_the_tables_hold(table: dict[str, Any], kind: type, field: str) -> None:
    allowed = typing.get_args(typing.get_type_hints(kind)[field])
    assert set(allowed) == set(table)


def test_every_architecture_has_sizes_and_networks() -> None:
    assert sizes.MODELS.keys() == ARCHITECTURES.keys()
    for name, kind in sizes.MODELS.items():
        assert kind().architecture == name
