"""What the sections of all plugins have in common that plug nodes into a bridge by themselves."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sncontroller.hypervisors.base import PermanentError

FIRST_INDEX: Final = 2

Address: TypeAlias = IPv4Address | IPv6Address


class PluggedConfig(BaseModel):
    """Where a node is plugged in, and the addresses of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bridge: str = Field(min_length=1, description="Bridge that the nodes are plugged into.")
    ovsdb: str | None = Field(
        None, pattern="^(unix|tcp|ssl):", description="OVSDB remote; the system's by default."
    )
    subnet: IPv4Network | IPv6Network = Field(description="Network of the nodes' own addresses.")
    addresses: str = Field(
        pattern="^[^-]+-[^-]+$",
        description="Own addresses, FIRST-LAST: the node of index 2 has the first.",
    )
    gateway: IPv4Address | IPv6Address | None = Field(None, description="Default gateway.")
    vlan: int | None = Field(None, ge=1, le=4094, description="VLAN of the nodes' ports.")

    @model_validator(mode="after")
    def _addresses_in_subnet(self) -> PluggedConfig:
        first, last = self.pool
        if first.version != last.version or int(first) > int(last):
            raise ValueError(f"addresses {self.addresses} must be FIRST-LAST")
        for address in (first, last, *([self.gateway] if self.gateway else [])):
            if address not in self.subnet:
                raise ValueError(f"{address} is not in subnet {self.subnet}")
        return self

    @property
    def pool(self) -> tuple[Address, Address]:
        """First and last own address."""
        first, _, last = self.addresses.partition("-")
        return ip_address(first.strip()), ip_address(last.strip())

    def address_of(self, index: int) -> Address:
        """Own address of the node of this index. Raises ``PermanentError``."""
        first, last = self.pool
        number = int(first) + index - FIRST_INDEX
        if index < FIRST_INDEX or number > int(last):
            raise PermanentError(
                f"address pool {self.addresses} is exhausted: it has none for index {index}"
            )
        return type(first)(number)

    def known_address(self, index: int) -> str:
        """The same as text; empty for an index that the pool has no address for any more."""
        try:
            return str(self.address_of(index))
        except PermanentError:
            return ""
