"""Traces of jobs for a collector of OpenTelemetry: a job is a trace, its steps are the spans below it.

A trace is made of the ledger once its job has ended, with the times that were written down, and its ids are made of the
job. So a daemon that was killed in the middle changes nothing, and a trace that is sent twice is the same trace.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import structlog

from regrow import __version__
from regrow.clock import Clock, SystemClock
from regrow.errors import ConfigError, RegrowError
from regrow.events import Events
from regrow.jobs.ledger import Ledger, Record
from regrow.pool import in_thread

if TYPE_CHECKING:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

log = structlog.get_logger("traces")

_TIMEOUT_S = 10
_LOOK_EVERY_S = 30.0
_BEFORE_S = 3600.0
"""How long before its own start a daemon looks for jobs whose end may not have been sent."""
_SHOWN = ("version", "release", "previous_version", "commit", "agent", "down_ms", "build_bytes", "cost")


class Traces:
    """Sends the trace of each job that has ended.

    Args:
        url: the collector's, with its path: "http://127.0.0.1:4318/v1/traces". What else its exporter takes is in the
            environment, as OpenTelemetry names it: OTEL_EXPORTER_OTLP_HEADERS, say.
        host: of this daemon, as the settings call it.
        ledger: with the jobs.
        events: wakes it.

    Raises:
        ConfigError: the extra is not installed.
    """

    def __init__(self, url: str, host: str, ledger: Ledger, events: Events, clock: Clock | None = None) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        except ImportError:
            raise ConfigError("cannot send [daemon] traces: its library is not there; install regrow[otel]") from None
        self._url, self._host = url, host
        self._ledger, self._events = ledger, events
        self._exporter: OTLPSpanExporter = OTLPSpanExporter(endpoint=url, timeout=_TIMEOUT_S)
        self._since = (clock or SystemClock()).now() - _BEFORE_S
        self._sent: set[int] = set()

    async def run(self) -> None:
        """Send what ends until cancelled.

        Raises:
            RegrowError: kind "no_collector": it did not take them; what was not sent is sent by the next `run`.
        """
        async with aclosing(self._events.ticks("jobs", at_least_every_s=_LOOK_EVERY_S)) as ticks:
            async for _ in ticks:
                ended = await self._ledger.ended_since(self._since)
                if not (unsent := [one for one in ended if one.id not in self._sent]):
                    continue
                await in_thread(self._send, unsent)
                self._sent = {one.id for one in ended}
                # Not to the last end itself: another job may have ended before it and be written down after it.
                self._since = max(self._since, max(one.ended_at or 0.0 for one in ended) - _BEFORE_S)
                log.info("traces were sent", action="traced", jobs=[one.id for one in unsent])

    def _send(self, ended: Sequence[Record]) -> None:
        from opentelemetry.sdk.trace.export import SpanExportResult

        found = [span for record in ended for span in spans(record, self._host)]
        if self._exporter.export(found) is not SpanExportResult.SUCCESS:
            raise RegrowError(
                f"cannot send traces to {self._url}: the collector did not take them; see whether it runs",
                kind="no_collector",
            )


def spans(record: Record, host: str) -> Iterator[ReadableSpan]:
    """The trace of a job that has ended.

    Args:
        record: the job.
        host: of the daemon; two daemons may have jobs of one number.
    """
    from opentelemetry import trace
    from opentelemetry.trace import SpanKind, Status, StatusCode

    tracer = _provider(f"{host} {record.service} {record.id} {record.created_at!r}").get_tracer("regrow", __version__)
    end = record.ended_at or record.created_at
    root: Any = tracer.start_span(
        f"regrow {record.kind}",
        kind=SpanKind.SERVER,
        start_time=_ns(record.created_at),
        attributes={
            "regrow.job": record.id,
            "regrow.service": record.service,
            "regrow.kind": record.kind,
            "regrow.status": record.status,
            "regrow.channel": record.address.channel,
            "regrow.host": host,
            **{f"regrow.{name}": record.result[name] for name in _SHOWN if _plain(record.result.get(name))},
            **({"error.type": record.error["kind"]} if record.error else {}),
        },
    )
    below = trace.set_span_in_context(root)
    for step in record.steps:
        if step.get("started_at") is None:
            continue
        span: Any = tracer.start_span(
            step["name"], below, start_time=_ns(step["started_at"]), attributes={"regrow.status": step["status"]}
        )
        if step["status"] == "failed":
            span.set_status(Status(StatusCode.ERROR))
        span.end(_ns(step["started_at"] + (step.get("seconds") or 0.0)))
        yield span
    if record.status in {"failed", "undone"}:
        root.set_status(Status(StatusCode.ERROR, record.error["kind"] if record.error else record.status))
    root.end(_ns(end))
    yield root


def _provider(seed: str) -> TracerProvider:
    """A maker of spans whose ids are always the same for `seed`."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.id_generator import IdGenerator

    class Ids(IdGenerator):
        def __init__(self) -> None:
            self._count = 0

        def generate_trace_id(self) -> int:
            return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:16])

        def generate_span_id(self) -> int:
            self._count += 1
            return int.from_bytes(hashlib.sha256(f"{seed} {self._count}".encode()).digest()[:8])

    resource = Resource({"service.name": "regrow", "service.version": __version__})
    return TracerProvider(resource=resource, id_generator=Ids(), shutdown_on_exit=False)


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)


def _plain(value: object) -> bool:
    return isinstance(value, str | int | float) and value != ""
