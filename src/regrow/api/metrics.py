"""What Prometheus reads at /metrics: the state of now and the ledger's totals, so a daemon that died loses no count.

Names follow the conventions of Prometheus: base units, and `_total` for what only grows.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from regrow.api.types import ServiceStatus, Status
from regrow.jobs.ledger import Total

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_STATES = ("up", "down", "starting", "stopped")


@dataclass(frozen=True, eq=False)  # a registry keeps it by identity
class Source:
    """Gives the metrics of one moment, as a collector of prometheus_client does.

    Args:
        status: of now.
        totals: of all jobs.
    """

    status: Status
    totals: Sequence[Total]

    def collect(self) -> Iterator[Metric]:
        """The metrics."""
        yield from self._of_jobs()
        yield from self._of_services()
        yield from self._of_the_daemon()

    def _of_jobs(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        labels = ("service", "kind", "status")
        ended = CounterMetricFamily("regrow_jobs", "Jobs that have ended.", labels=labels)
        spent = CounterMetricFamily("regrow_job_seconds", "Seconds from their start to their end.", labels=labels)
        live = GaugeMetricFamily("regrow_jobs_live", "Jobs under way, waiting ones too.", labels=labels[:2])
        under_way: dict[tuple[str, str], int] = {}
        for one in self.totals:
            if one.ended:
                ended.add_metric((one.service, one.kind, one.status), one.count)
                spent.add_metric((one.service, one.kind, one.status), one.seconds)
            else:
                key = (one.service, one.kind)
                under_way[key] = under_way.get(key, 0) + one.count
        for key, count in under_way.items():
            live.add_metric(key, count)
        yield from (ended, spent, live)

    def _of_services(self) -> Iterator[Metric]:
        services = self.status.services
        yield _gauge(
            "regrow_service_state",
            "1 for the state in which the service is.",
            ("service", "state"),
            (((one.name, state), float(one.state == state)) for one in services for state in _STATES),
        )
        yield _gauge(
            "regrow_service_release_info",
            "1 for the release that serves.",
            ("service", "release", "version"),
            (((one.name, one.active.release, one.active.version), 1.0) for one in services if one.active is not None),
        )
        yield _gauge(
            "regrow_service_start_time_seconds",
            "When what serves was started, since 1970.",
            ("service",),
            (((one.name,), one.active.since) for one in services if one.active is not None),
        )
        yield _gauge(
            "regrow_service_resident_memory_bytes",
            "Resident memory of the first process of what serves.",
            ("service",),
            (((one.name,), float(size)) for one in services if (size := _resident_bytes(one)) is not None),
        )
        yield _gauge(
            "regrow_service_probe_ok",
            "Whether a probe's last answer was good.",
            ("service", "probe"),
            (((one.name, probe.name), float(probe.ok)) for one in services for probe in one.probes),
        )
        for name, about, value in (
            ("baking", "Whether a new release is on trial.", lambda one: one.baking_until is not None),
            ("frozen", "Whether nobody may change it.", lambda one: one.freeze is not None),
            ("quiet", "Whether its quiet hours last.", lambda one: one.quiet_until is not None),
            ("crashes", "Ends of what serves that the supervisor counts towards its limit.", lambda one: one.crashes),
            ("incidents_open", "Incidents that nobody has dealt with.", lambda one: one.incidents),
            ("queue", "Jobs that wait for their turn.", lambda one: len(one.queue)),
        ):
            values = (((one.name,), float(value(one))) for one in services)
            yield _gauge(f"regrow_service_{name}", about, ("service",), values)

    def _of_the_daemon(self) -> Iterator[Metric]:
        daemon = self.status.daemon
        yield _gauge("regrow_info", "1 for the version of Regrow.", ("version",), (((daemon.version,), 1.0),))
        yield _gauge("regrow_start_time_seconds", "Its start, since 1970.", (), (((), daemon.started_at),))
        yield _gauge("regrow_ready_seconds", "What it took to be ready.", (), (((), daemon.ready_ms / 1000),))
        yield _gauge("regrow_resident_memory_bytes", "Its resident memory.", (), (((), float(daemon.rss_bytes)),))
        yield _gauge("regrow_outbox_waiting", "Messages to be sent.", (), (((), float(self.status.outbox_waiting)),))
        yield _gauge(
            "regrow_channel_healthy",
            "Whether a channel hears and speaks.",
            ("channel",),
            (((one.name,), float(one.healthy)) for one in self.status.channels),
        )


def exposition(source: Source) -> bytes:
    """The metrics as text."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(source)
    return generate_latest(registry)


def _gauge(name: str, about: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], float]]) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    found = GaugeMetricFamily(name, about, labels=labels)
    for of, value in values:
        found.add_metric(of, value)
    return found


def _resident_bytes(service: ServiceStatus) -> int | None:
    if service.active is None:
        return None
    try:
        pages = Path(f"/proc/{service.active.pid}/statm").read_text().split()[1]
    except (OSError, IndexError):
        return None  # it has just ended
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
