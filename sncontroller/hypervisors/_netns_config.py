"""The ``netns`` plugin's section of a group."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from sncontroller.hypervisors._plugged_config import PluggedConfig


class NetnsConfig(PluggedConfig):
    """The plugin's section of a group."""

    rate_bps: int | None = Field(None, ge=8000, description="Limit on what a node sends.")
    command: tuple[str, ...] = Field(
        min_length=1,
        description="The service: {name}, {index}, {address}, {port} and {directory} are replaced.",
    )
    environment: dict[str, str] = Field({}, description="Added to the service's environment.")
    boot_s: float = Field(0.0, ge=0, le=600, description="Delay that imitates a VM's boot.")
    workdir: Path | None = Field(
        None, description="Directory in which each node gets one of its own, with its log."
    )
