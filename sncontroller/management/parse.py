"""The numbers in a report: Prometheus' text format or JSON, as strangers wrote it.

Pure functions. Only samples that are asked for are parsed: an exporter's page has a thousand
others, and the controller has other things to do.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from sncontroller.core.report import Combine, Operand, Reading, ReportSpec

MAX_SAMPLES = 10_000
"""More than this of the metrics that are asked for is no report of one node."""

Samples = Mapping[str, Sequence[Sample]]


class ReportError(Exception):
    """The report cannot be used; the message says why."""


def readings(spec: ReportSpec, body: bytes) -> Mapping[str, Reading]:
    """What the report says of each signal. Raises ``ReportError`` where it is no such report."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise ReportError("is not UTF-8 text") from error
    if spec.is_json:
        document = _document(text)
        return _readings(spec, lambda operand: _pointed(document, operand.pointer or ""))
    samples = _samples(text, _names(spec))
    return _readings(spec, lambda operand: _combined(samples, operand))


def _readings(spec: ReportSpec, number: Any) -> Mapping[str, Reading]:
    read = {}
    for name, signal in spec.signals.items():
        numbers = [None if operand is None else number(operand) for operand in signal.operands]
        read[name] = Reading(*numbers)
    return read


# JSON


def _document(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ReportError(f"is no JSON: {error}") from error


def _pointed(document: Any, pointer: str) -> float | None:
    """The number at a JSON Pointer (RFC 6901); ``None`` where there is none."""
    at = document
    for escaped in pointer.split("/")[1:]:
        token = escaped.replace("~1", "/").replace("~0", "~")
        if isinstance(at, dict):
            at = at.get(token)
        elif isinstance(at, list) and re.fullmatch("0|[1-9][0-9]{0,8}", token):
            at = at[int(token)] if int(token) < len(at) else None
        else:
            return None
    if isinstance(at, bool) or not isinstance(at, int | float):
        return None
    return _finite(at)


# Prometheus


def _names(spec: ReportSpec) -> frozenset[str]:
    operands = (part for signal in spec.signals.values() for part in signal.operands)
    return frozenset(part.metric for part in operands if part is not None and part.metric)


def _samples(text: str, names: frozenset[str]) -> Samples:
    """The samples of these names; lines of others are not even looked at."""
    one = "|".join(sorted(map(re.escape, names)))
    lines = re.findall(rf"^(?:{one})(?=[ \t{{]).*$", text, re.MULTILINE)
    if len(lines) > MAX_SAMPLES:
        raise ReportError(f"has {len(lines)} samples of what is asked for, {MAX_SAMPLES} at most")
    found: dict[str, list[Sample]] = defaultdict(list)
    try:
        for family in text_string_to_metric_families("\n".join(lines) + "\n"):
            for sample in family.samples:
                found[sample.name].append(sample)
    except (ValueError, IndexError) as error:
        raise ReportError(f"is not in Prometheus' text format: {error}") from error
    return found


def _combined(samples: Samples, operand: Operand) -> float | None:
    values = [s.value for s in samples.get(operand.metric or "", ()) if _fits(s, operand)]
    if not values:
        return None
    match operand.combine:
        case Combine.SUM:
            return _finite(math.fsum(values) if all(map(math.isfinite, values)) else math.nan)
        case Combine.MEAN:
            return _finite(_mean(values))
        case Combine.MAX:
            return _finite(max(values))
        case Combine.MIN:
            return _finite(min(values))


def _fits(sample: Sample, operand: Operand) -> bool:
    return all(sample.labels.get(name) in wanted for name, wanted in operand.labels.items())


def _mean(values: Iterable[float]) -> float:
    all_ = list(values)
    return sum(all_) / len(all_)


def _finite(value: float) -> float | None:
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # a whole number of JSON that no float can hold
        return None
