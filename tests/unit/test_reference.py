"""The reference mentions every setting, with the default the code has."""

import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

import regrow
from regrow.config import Config, load

REFERENCE = Path(regrow.__file__).with_name("reference.toml")

PRICES = ("input", "output", "cache_read", "cache_write", "cache_write_hour")

# Examples, where the default is nothing or there is none.
EXAMPLES = {
    *("service.name", "service.command", "service.listen", "service.env", "service.secrets"),
    *("state.sqlite", "probe.health.target", "probe.health.version", "build.command", "test.command"),
    *("model.kind", "model.models", "model.key", *(f"model.prices.a-model.{name}" for name in PRICES)),
    *(
        "agent.opencode.driver",
        "agent.opencode.command",
        "sandbox.readable",
        "channels.feishu.app_id",
        "channels.feishu.app_secret",
        "channels.feishu.people",
        "token.grafana.token",
    ),
}


def test_the_reference_loads() -> None:
    assert load(REFERENCE).service.name == "claw"


def test_every_setting_is_mentioned_with_its_default() -> None:
    written = tomllib.loads(REFERENCE.read_text())
    shown = load(REFERENCE)

    def compare(model: BaseModel, values: dict[str, Any], path: str) -> None:
        for name, field in type(model).model_fields.items():
            here = f"{path}{name}"
            if here == "path":
                continue
            assert name in values, f"{here} is not in reference.toml"
            value = getattr(model, name)
            if isinstance(value, BaseModel):
                compare(value, values[name], f"{here}.")
            elif isinstance(value, dict) and any(isinstance(v, BaseModel) for v in value.values()):
                for key, section in value.items():
                    compare(section, values[name][key], f"{here}.{key}.")
            elif here not in EXAMPLES:
                assert field.default is not PydanticUndefined, here
                assert value == field.default, (
                    f"{here} is {value!r} in reference.toml and {field.default!r} in the code"
                )

    compare(shown, written, "")


def test_the_example_of_claw_loads() -> None:
    claw = load(Path(__file__).parents[2] / "examples" / "claw" / "regrow.toml")
    assert isinstance(claw, Config)
    assert claw.service.effective_handover == "socket"
