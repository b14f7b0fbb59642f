"""What nodes report about themselves: the ``reports:`` section, and numbers out of readings.

Owns the specification of a report and the arithmetic from what was read to a signal's value. It
fetches and parses nothing (``sncontroller.management``). Nothing is invented: a number that is not
in the report, a counter that was reset and a division by zero make a value *unknown*, not zero.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from sncontroller.core.health_spec import HostAddress
from sncontroller.core.layout import MAX_INDEX
from sncontroller.core.load import MIN_INTERVAL_S

KEPT_INTERVALS = 3
MOST_TIMEOUT_S = 2.0
_FIELD = re.compile(r"\{([^{}]*)\}")
_FIELDS = ("address", "name", "index", "port")


class _Spec(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class ManagementSpec(_Spec):
    """Where nodes are reached apart from the group's address: by reports and controller's probes.

    Without a rule it is the address that the hypervisor plugin names; the primary's is
    ``primary.address``, or the group's address where that is its own.
    """

    address: str | None = Field(default=None, pattern=r"^[0-9a-fA-F.:]+\+index$")
    """``A+index``: A plus the node's index, as 192.168.9.100+index is 192.168.9.102 for node 2."""
    primary_address: HostAddress | None = None
    """The primary's, where it does not fit in with the others."""

    @field_validator("address")
    @classmethod
    def _whole_range(cls, value: str | None) -> str | None:
        if value is not None:
            ip_address(value.removesuffix("+index")) + MAX_INDEX
        return value

    def address_of(self, index: int, own: str | None) -> str | None:
        """The management address of node ``index``; ``own`` is what is known without a rule."""
        if index == 1 and self.primary_address is not None:
            return str(self.primary_address)
        if self.address is not None:
            return str(ip_address(self.address.removesuffix("+index")) + index)
        return own


class Combine(Enum):
    """What several samples of a metric are together."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"
    MEAN = "mean"


class SignalKind(Enum):
    """What the number in the report is."""

    GAUGE = "gauge"
    """The value itself."""
    COUNTER = "counter"
    """What was counted since some time: the value is its growth per second."""


def _operand(raw: Any) -> Any:
    """Short forms: ``/a/b`` is a pointer, any other text a metric's name."""
    if isinstance(raw, str):
        return {"pointer" if raw.startswith("/") else "metric": raw}
    return raw


def _label_values(raw: Any) -> Any:
    """One or several; label values that look like numbers are text all the same."""
    listed = raw if isinstance(raw, (list, tuple)) else [raw]
    return [str(value) if type(value) is int else value for value in listed]


_some = BeforeValidator(_label_values, json_schema_input_type=str | int | list[str | int])


class Operand(_Spec):
    """One number out of a report."""

    metric: str | None = Field(default=None, pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")
    """Name of a sample of a Prometheus exporter."""
    labels: dict[str, Annotated[tuple[str, ...], Field(min_length=1), _some]] = Field(
        default_factory=dict
    )
    """Only samples with these labels: a value, or a list of values."""
    combine: Combine = Combine.SUM
    """What several samples are together."""
    pointer: str | None = Field(default=None, pattern=r"^(/([^~]|~[01])*)+$")
    """JSON Pointer (RFC 6901) to a number in a JSON report, as ``/queue/length``."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.metric is None) == (self.pointer is None):
            raise ValueError("name either a metric (Prometheus) or a pointer (JSON)")
        if self.pointer is not None and self.model_fields_set & {"labels", "combine"}:
            raise ValueError("labels and combine belong to a metric, not to a pointer")
        return self


OtherOperand = Annotated[Operand, BeforeValidator(_operand, json_schema_input_type=str | Operand)]


class SignalSpec(Operand):
    """A signal: ``(metric - minus) / per``, each of which may be left out but the first."""

    kind: SignalKind = SignalKind.GAUGE
    """Whether the report's numbers are values, or counters of which the growth counts."""
    minus: OtherOperand | None = None
    """Taken off before anything else."""
    per: OtherOperand | None = None
    """What it is divided by; a counter's growth is divided by that of ``per``, or by time."""

    @property
    def operands(self) -> tuple[Operand | None, Operand | None, Operand | None]:
        """The number itself, what is taken off, what it is divided by."""
        return self, self.minus, self.per

    @model_validator(mode="after")
    def _one_format(self) -> Self:
        kinds = {operand.metric is None for operand in self.operands if operand is not None}
        if len(kinds) > 1:
            raise ValueError("its parts must all be metrics, or all be pointers: it is one report")
        return self


SignalName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Signals = dict[
    SignalName,
    Annotated[SignalSpec, BeforeValidator(_operand, json_schema_input_type=str | SignalSpec)],
]


class ReportSpec(_Spec):
    """A report that every node makes of itself, and which numbers in it are signals."""

    url: str = Field(pattern=r"^https?://[!-~]+$", max_length=1024)
    """Where it is: ``{address}``, ``{name}``, ``{index}`` and ``{port}`` are replaced."""
    interval_s: float = Field(default=5.0, ge=0.5, le=3600)
    """How often it is fetched."""
    timeout_s: float | None = Field(default=None, ge=0.05, le=60)
    """How long one fetch may take, from the first byte to the last; at most 2 s if not given."""
    keep_s: float | None = Field(default=None, gt=0, le=86400)
    """How long a value counts after it was read; three intervals when not given."""
    token_file: str | None = Field(default=None, min_length=1)
    """Sent as ``Authorization: Bearer``; read at each fetch."""
    ca_file: str | None = Field(default=None, min_length=1)
    """Certificates to check the server's with; the system's when not given."""
    signals: Signals
    """The signals in it, by the names that ``capacity.reports`` uses."""

    @property
    def kept_s(self) -> float:
        """How long a value counts after it was read."""
        return KEPT_INTERVALS * self.interval_s if self.keep_s is None else self.keep_s

    @property
    def fetch_timeout_s(self) -> float:
        """How long one fetch may take."""
        return min(MOST_TIMEOUT_S, self.interval_s) if self.timeout_s is None else self.timeout_s

    @property
    def is_json(self) -> bool:
        """Whether it is JSON; else it is Prometheus' text format."""
        return any(signal.pointer is not None for signal in self.signals.values())

    @property
    def needs_address(self) -> bool:
        """Whether the URL has the node's address in it."""
        return "{address}" in self.url

    def url_of(self, address: str | None, name: str, index: int, port: str) -> str:
        """The URL of one node."""
        host = f"[{address}]" if address is not None and ":" in address else address or ""
        values = {"address": host, "name": name, "index": str(index), "port": port}
        return _FIELD.sub(lambda field: values[field[1]], self.url)

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        for field in _FIELD.findall(self.url):
            if field not in _FIELDS:
                names = ", ".join(f"{{{name}}}" for name in _FIELDS)
                raise ValueError(f"url: {{{field}}} is none of {names}")
        if not self.signals:
            raise ValueError("signals: name at least one")
        if self.fetch_timeout_s > self.interval_s:
            raise ValueError("timeout_s must not exceed interval_s: a node is asked once at a time")
        if len({signal.metric is None for signal in self.signals.values()}) > 1:
            raise ValueError("its signals must all be metrics, or all be pointers; use two reports")
        return self


@dataclass(frozen=True, slots=True)
class Reading:
    """A signal's numbers in one report; ``None`` where one is not in it, or no finite number."""

    value: float | None
    minus: float | None = None
    per: float | None = None


def value_of(
    signal: SignalSpec, reading: Reading, before: Reading | None, elapsed_s: float
) -> float | None:
    """The signal's value, never below 0; ``None`` where it is unknown.

    ``before`` is the reading ``elapsed_s`` earlier, which a counter needs.
    """
    numbers: Reading | None = reading
    time_s = 1.0
    if signal.kind is SignalKind.COUNTER:
        numbers, time_s = _growth(before, reading), elapsed_s
        if elapsed_s < MIN_INTERVAL_S:
            return None
    if numbers is None or numbers.value is None:
        return None
    minus = 0.0 if signal.minus is None else numbers.minus
    per = time_s if signal.per is None else numbers.per
    if minus is None or per is None or per <= 0:
        return None
    return max(0.0, (numbers.value - minus) / per)


def is_whole(signal: SignalSpec, reading: Reading) -> bool:
    """Whether all the numbers that the signal is made of are in the reading."""
    numbers = (reading.value, reading.minus, reading.per)
    pairs = zip(signal.operands, numbers, strict=True)
    return all(number is not None for operand, number in pairs if operand is not None)


def _growth(before: Reading | None, reading: Reading) -> Reading | None:
    if before is None:
        return None
    return Reading(
        _grown(before.value, reading.value),
        _grown(before.minus, reading.minus),
        _grown(before.per, reading.per),
    )


def _grown(old: float | None, new: float | None) -> float | None:
    """By how much a counter grew; unknown where it was reset."""
    return None if old is None or new is None or new < old else new - old


@dataclass(frozen=True, slots=True)
class Known:
    """A signal's last value."""

    value: float
    until_s: float
    """After this it is unknown again."""


def known(values: Mapping[str, Known], name: str, now: float) -> float | None:
    """The last value of a signal, while it counts."""
    last = values.get(name)
    return None if last is None or now > last.until_s else last.value
