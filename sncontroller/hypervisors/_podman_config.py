"""The ``podman`` plugin's section of a group."""

from __future__ import annotations

from typing import Final

from pydantic import Field, field_validator

from sncontroller.hypervisors._plugged_config import PluggedConfig

_OURS: Final = {
    "--name": "the controller names containers",
    "--network": "a node is plugged into bridge",
    "--net": "a node is plugged into bridge",
    "--pod": "a node is a container by itself",
    "--replace": "it would replace somebody else's container",
    "--rm": "the controller must see that a container has ended",
    "--pull": "say pull: true or false",
    "--env": "say environment",
    "-e": "say environment",
}


class PodmanConfig(PluggedConfig):
    """The plugin's section of a group."""

    image: str = Field(min_length=1, pattern="^[^-]", description="Image that nodes are made of.")
    command: tuple[str, ...] = Field(
        (),
        description="The service, where the image does not say it: {name}, {index}, {address}, "
        "{mac}, {port} and {group_addresses} are replaced.",
    )
    environment: dict[str, str] = Field(
        {}, description="Environment of the service; the same are replaced in its values."
    )
    options: tuple[str, ...] = Field(
        (), description="Further options of podman run, as --memory=512m or --cap-add=NET_ADMIN."
    )
    pull: bool = Field(False, description="Fetch the image when it is not on this machine.")
    rate_bps: int | None = Field(None, ge=8000, description="Limit on what a node sends.")
    stop_s: int = Field(5, ge=0, le=600, description="A service asked to end is killed after it.")
    podman: tuple[str, ...] = Field(
        ("podman",), min_length=1, description="The program, with global options such as --root."
    )
    timeout_s: float = Field(120.0, gt=0, le=600, description="podman must be done in this time.")

    @field_validator("options")
    @classmethod
    def _not_ours(cls, options: tuple[str, ...]) -> tuple[str, ...]:
        for option in options:
            why = _OURS.get(option.partition("=")[0])
            if why is not None:
                raise ValueError(f"{option} cannot be given: {why}")
        return options
