"""What the sections of all plugins have in common that plug nodes into a bridge by themselves."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sncontroller.hypervisors._addresses import PATTERN, Address, Range
from sncontroller.hypervisors.base import PermanentError


class PluggedConfig(BaseModel):
    """Where a node is plugged in, and the addresses of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bridge: str = Field(min_length=1, description="Bridge that the nodes are plugged into.")
    ovsdb: str | None = Field(
        None, pattern="^(unix|tcp|ssl):", description="OVSDB remote; the system's by default."
    )
    subnet: IPv4Network | IPv6Network = Field(description="Network of the nodes' own addresses.")
    addresses: str = Field(
        pattern=PATTERN,
        description="Own addresses, FIRST-LAST: the node of index 2 has the first.",
    )
    gateway: IPv4Address | IPv6Address | None = Field(None, description="Default gateway.")
    vlan: int | None = Field(None, ge=1, le=4094, description="VLAN of the nodes' ports.")

    @model_validator(mode="after")
    def _addresses_in_subnet(self) -> PluggedConfig:
        own = Range.parse(self.addresses)
        for address in (own.first, own.last, *([self.gateway] if self.gateway else [])):
            if address not in self.subnet:
                raise ValueError(f"{address} is not in subnet {self.subnet}")
        return self

    def address_of(self, index: int) -> Address:
        """Own address of the node of this index. Raises ``PermanentError``."""
        return Range.parse(self.addresses).of(index)

    def known_address(self, index: int) -> str:
        """The same as text; empty for an index that the pool has no address for any more."""
        try:
            return str(self.address_of(index))
        except PermanentError:
            return ""
