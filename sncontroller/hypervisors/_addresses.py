"""Own addresses of nodes, FIRST-LAST, as several plugins' sections have them."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, Self, TypeAlias

from sncontroller.hypervisors.base import PermanentError

FIRST_INDEX: Final = 2
PATTERN: Final = "^[^-]+-[^-]+$"

Address: TypeAlias = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Range:
    """Addresses in a row; the node of index 2 has the first."""

    first: Address
    last: Address

    @classmethod
    def parse(cls, text: str) -> Self:
        """The range that ``FIRST-LAST`` names. Raises ``ValueError``."""
        first, _, last = text.partition("-")
        parsed = cls(ip_address(first.strip()), ip_address(last.strip()))
        if parsed.first.version != parsed.last.version or int(parsed.first) > int(parsed.last):
            raise ValueError(f"addresses {text} must be FIRST-LAST")
        return parsed

    def __len__(self) -> int:
        return int(self.last) - int(self.first) + 1

    def __contains__(self, address: object) -> bool:
        try:
            given = ip_address(str(address))
        except ValueError:
            return False
        same_family = given.version == self.first.version
        return same_family and int(self.first) <= int(given) <= int(self.last)

    def of(self, index: int) -> Address:
        """The address of the node of this index. Raises ``PermanentError`` when there is none."""
        number = int(self.first) + index - FIRST_INDEX
        if index < FIRST_INDEX or number > int(self.last):
            raise PermanentError(
                f"addresses {self.first}-{self.last} have none for index {index}: widen them"
            )
        return type(self.first)(number)
