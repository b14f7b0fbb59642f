"""The ``openstack`` plugin's section of a group."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from sncontroller.hypervisors import _addresses
from sncontroller.hypervisors._openstack_cloud import is_installed
from sncontroller.hypervisors._words import PLACEHOLDERS


class OpenStackConfig(BaseModel):
    """The plugin's section of a group."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cloud: str = Field(min_length=1, description="Name of the cloud in clouds.yaml.")
    clouds_file: Path | None = Field(
        None, description="That file; where openstacksdk looks for it by default."
    )
    image: str = Field(min_length=1, description="Image, by name or id.")
    flavor: str = Field(min_length=1, description="Flavor, by name or id.")
    network: str = Field(min_length=1, description="Network of the ports, by name or id.")
    addresses: str | None = Field(
        None,
        pattern=_addresses.PATTERN,
        description="Own addresses, FIRST-LAST: index 2 has the first; Neutron's choice if absent.",
    )
    security_groups: tuple[str, ...] | None = Field(
        None, description="Of the ports, by name or id; the project's default if absent."
    )
    port_security: bool = Field(
        True, description="Whether Neutron filters what a node sends and gets."
    )
    key_name: str | None = Field(None, description="Key pair for logging in.")
    user_data: Path | None = Field(
        None, description=f"File for cloud-init; {PLACEHOLDERS} are replaced."
    )
    config_drive: bool = Field(False, description="Whether user data comes by a disk too.")
    availability_zone: str | None = Field(
        None, description="Where servers are made; ZONE:HOST names the host, for administrators."
    )
    server_group: str | None = Field(
        None, description="Server group, by name or id; with affinity it keeps them on one host."
    )
    ovsdb: str | None = Field(
        None,
        pattern="^(unix|tcp|ssl):",
        description="OVSDB remote of the host's switch: the port is found by its iface-id.",
    )
    port_prefix: str = Field(
        "tap",
        pattern="^[a-z]{3}$",
        description="Without ovsdb: tap, qvo (hybrid plug) or vhu (vhost-user), and the port's id.",
    )
    timeout_s: float = Field(30.0, gt=0, le=600, description="Each request must end in this time.")
    wait_s: float = Field(
        300.0, gt=0, le=3600, description="A server must be active, or gone, in this time."
    )

    @field_validator("addresses")
    @classmethod
    def _is_a_range(cls, addresses: str | None) -> str | None:
        if addresses is not None:
            _addresses.Range.parse(addresses)
        return addresses

    @model_validator(mode="after")
    def _can_be_used(self) -> OpenStackConfig:
        if not is_installed():
            raise ValueError("openstacksdk is missing: pip install 'sncontroller[openstack]'")
        if self.security_groups and not self.port_security:
            raise ValueError("security_groups need port_security")
        return self

    def address_of(self, index: int) -> str:
        """Own address of the node of this index, empty when Neutron chooses."""
        if self.addresses is None:
            return ""
        return str(_addresses.Range.parse(self.addresses).of(index))
