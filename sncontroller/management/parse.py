"""The numbers in a report: Prometheus' text format or JSON, as strangers wrote it.

Only samples that are asked for are parsed: an exporter's page has a thousand others, and the
controller has other things to do. Long pages are read in pieces, and ``breathe`` is called between
them, in which others may go on; there is no other effect.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from sncontroller.core.report import Combine, Operand, Reading, ReportSpec

MAX_SAMPLES = 10_000
"""More than this of the metrics that are asked for is no report of one node."""
_PIECE, _LINES = 2**18, 100
"""Characters that are searched, and lines that are parsed, in one go: some 3 ms each."""

Breathe = Callable[[], None]

Samples = Mapping[str, Sequence[Sample]]


class ReportError(Exception):
    """The report cannot be used; the message says why."""


def _on() -> None:
    """Others have nothing to do meanwhile."""


def readings(spec: ReportSpec, body: bytes, breathe: Breathe = _on) -> Mapping[str, Reading]:
    """What the report says of each signal. Raises ``ReportError`` where it is no such report."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise ReportError("is not UTF-8 text") from error
    if spec.is_json:
        document = _document(text)
        return _readings(spec, lambda operand: _pointed(document, operand.pointer or ""))
    samples = _samples(text, _names(spec), breathe)
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


def _samples(text: str, names: frozenset[str], breathe: Breathe) -> Samples:
    """The samples of these names; lines of others are not even looked at."""
    lines = list(islice(_lines(text, names, breathe), MAX_SAMPLES + 1))
    if len(lines) > MAX_SAMPLES:
        raise ReportError(f"has more than {MAX_SAMPLES} samples of what is asked for")
    found: dict[str, list[Sample]] = defaultdict(list)
    for start in range(0, len(lines), _LINES):
        for sample in _parsed(lines[start : start + _LINES]):
            found[sample.name].append(sample)
        breathe()
    return found


def _lines(text: str, names: frozenset[str], breathe: Breathe) -> Iterator[str]:
    """The lines of these names' samples."""
    one = "|".join(sorted(map(re.escape, names)))
    line = re.compile(rf"^(?:{one})(?=[ \t{{]).*$", re.MULTILINE)
    start = 0
    while start < len(text):
        end = text.find("\n", start + _PIECE)
        end = len(text) if end < 0 else end
        yield from (match[0] for match in line.finditer(text, start, end))
        start = end + 1
        breathe()


def _parsed(lines: Sequence[str]) -> Iterator[Sample]:
    try:
        for family in text_string_to_metric_families("\n".join(lines) + "\n"):
            yield from family.samples
    except (ValueError, IndexError) as error:
        raise ReportError(f"is not in Prometheus' text format: {error}") from error


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
