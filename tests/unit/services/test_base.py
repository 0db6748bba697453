"""Specs survive the way to the supervisor and back."""

import importlib
import json

from hypothesis import given
from hypothesis import strategies as st

from regrow.services import DRIVERS
from regrow.services.base import Probe, ReleaseSpec, Restart, Socket

words = st.text(min_size=1, max_size=8)
seconds = st.floats(0.1, 1000)
probes = st.builds(
    Probe,
    name=words,
    type=st.sampled_from(["http", "tcp", "command", "log", "ready"]),
    target=words | st.lists(words, min_size=1).map(tuple),
    interval_s=seconds,
    timeout_s=seconds,
    strikes=st.integers(1, 9),
    version_json=st.none() | words,
    fail=st.none() | words,
    grace_s=seconds,
)
specs = st.builds(
    ReleaseSpec,
    id=words,
    digest=words,
    commit=words,
    argv=st.lists(words, min_size=1).map(tuple),
    log=words,
    version=st.none() | words,
    env=st.dictionaries(words, words),
    secrets=st.dictionaries(words, words),
    sockets=st.lists(st.builds(Socket, words, words)).map(tuple),
    handover=st.sampled_from(["socket", "overlap", "exclusive"]),
    standby=st.sampled_from(["paused", "running", "none"]),
    probes=st.lists(probes).map(tuple),
    required=st.none() | st.lists(words).map(tuple),
    restart=st.builds(Restart, seconds, seconds, st.integers(1, 9), seconds),
)


@given(specs)
def test_release_spec_round_trip(spec):
    assert ReleaseSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_every_driver_of_the_table_is_there():
    for dotted in DRIVERS.values():
        module, _, name = dotted.partition(":")
        driver = getattr(importlib.import_module(module), name)
        for verb in (
            "status",
            "start",
            "switch",
            "promote",
            "discard",
            "fall_back",
            "stop",
            "signal",
            "events",
            "close",
        ):
            assert callable(getattr(driver, verb))
