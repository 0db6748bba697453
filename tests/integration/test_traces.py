"""Traces of jobs at a collector: the protocol's own messages, over HTTP, as any collector gets them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from regrow.testing.ports import free_ports
from regrow.testing.world import eventually


class Collector:
    """Keeps the spans that it is sent."""

    def __init__(self) -> None:
        [self.port] = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}/v1/traces"
        self.spans: list[Any] = []

    @contextmanager
    def open(self) -> Iterator[None]:
        taken = self.spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                sent = ExportTraceServiceRequest.FromString(body)
                taken.extend(span for one in sent.resource_spans for scope in one.scope_spans for span in scope.spans)
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", self.port), Handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()

    def roots(self) -> dict[int, Any]:
        """The root of each job's trace, by the job's number; of one that came twice the last."""
        return {attributes(span)["regrow.job"]: span for span in self.spans if not span.parent_span_id}


def attributes(span: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


async def test_a_job_is_a_trace_and_a_killed_daemon_makes_no_other(make_world: Any) -> None:
    collector = Collector()
    with collector.open():
        world = await make_world(daemon={"traces": collector.url})
        number = await world.request("restart")
        job = await world.ended(number)

        async def there() -> bool:
            return number in collector.roots()

        await eventually(there, "the trace of the restart")
        root = collector.roots()[number]
        assert root.name == "regrow restart"
        assert root.start_time_unix_nano == int(job.created_at * 1e9)
        assert root.end_time_unix_nano == int(job.ended_at * 1e9)
        shown = attributes(root)
        assert (shown["regrow.service"], shown["regrow.status"], shown["regrow.kind"]) == ("tiny", "done", "restart")
        assert shown["regrow.version"] == job.result["version"]
        below = [span for span in collector.spans if span.parent_span_id == root.span_id]
        assert [span.name for span in below] == [step.name for step in job.steps]
        assert {span.trace_id for span in below} == {root.trace_id}
        for span, step in zip(below, job.steps, strict=True):
            took = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9
            assert abs(took - step.seconds) < 1e-6

        await world.kill_daemon()
        collector.spans.clear()
        await world.start_daemon()
        await eventually(there, "the trace again: this daemon cannot know that it was taken")
    again = collector.roots()[number]
    assert (again.trace_id, again.span_id) == (root.trace_id, root.span_id)


async def test_a_collector_that_comes_later_gets_them_and_nobody_waits_for_it(make_world: Any) -> None:
    collector = Collector()
    world = await make_world(daemon={"traces": collector.url})
    world.commit({"build.sh": "exit 3\n"})
    number = await world.request("deploy", target="latest")
    job = await world.ended(number)
    assert (job.status, job.error.kind) == ("failed", "build_failed")
    with collector.open():

        async def there() -> bool:
            return number in collector.roots()

        await eventually(there, "the traces of before", 120.0)
    root = collector.roots()[number]
    assert root.status.code == root.status.STATUS_CODE_ERROR
    assert attributes(root)["error.type"] == job.error.kind
    failed = [span for span in collector.spans if span.trace_id == root.trace_id and span.status.code == 2]
    assert {span.name for span in failed} == {root.name, job.error.step}
