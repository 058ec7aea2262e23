import typing
from typing import Any

import pytest

from scalegan import registry, settings

MODELS = [settings.GATConfig, settings.GANsformerConfig]


@pytest.mark.parametrize(
    ("table", "kinds", "field"),
    [
        (registry.ARCHITECTURES, MODELS, "architecture"),
        (registry.AUTOENCODERS, [settings.AutoencoderConfig], "kind"),
        (registry.ADVERSARIAL, [settings.ObjectiveConfig], "adversarial"),
        ({"": None} | registry.FEATURES, [settings.AlignmentConfig], "teacher"),
    ],
)
def test_settings_allow_what_the_tables_hold(
    table: dict[str, Any], kinds: list[type], field: str
) -> None:
    allowed = [typing.get_args(typing.get_type_hints(kind)[field]) for kind in kinds]
    assert sorted(name for names in allowed for name in names) == sorted(table)
