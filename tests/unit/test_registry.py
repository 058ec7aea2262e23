import typing
from typing import Any

import pytest

from scalegan import registry, settings, sizes


@pytest.mark.parametrize(
    ("table", "kind", "field"),
    [
        (registry.AUTOENCODERS, settings.AutoencoderConfig, "kind"),
        (registry.ADVERSARIAL, settings.ObjectiveConfig, "adversarial"),
        ({"": None} | registry.FEATURES, settings.AlignmentConfig, "teacher"),
    ],
)
def test_settings_allow_what_the_tables_hold(table: dict[str, Any], kind: type, field: str) -> None:
    allowed = typing.get_args(typing.get_type_hints(kind)[field])
    assert set(allowed) == set(table)


def test_every_architecture_has_sizes_and_networks() -> None:
    assert sizes.MODELS.keys() == registry.ARCHITECTURES.keys()
    for name, kind in sizes.MODELS.items():
        assert kind().architecture == name
