"""How well and how fast messages are understood: `scripts/bench intents`.

Reads the labelled utterances of tests/data/utterances: build, opened and situations were built on, the others only
measured; unseen was written by somebody who had not seen the grammar, and nobody who builds has read it. Times each of
`measured`, best of the rounds; the first call of all, which reads the phrases, is a figure of its own.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.lines import Lines, size
from regrow.phrases import phrases
from regrow.testing.utterances import score, utterances

DATA = Path(__file__).parent.parent / "tests" / "data" / "utterances"
ROUNDS = {"smoke": 1, "default": 5, "nightly": 50}


def main(argv: Sequence[str] | None = None) -> None:
    """Print the figures of each set, then the times."""
    rounds = ROUNDS[size(__doc__ or "", argv)]
    lines = Lines("intents")
    begun = time.perf_counter()
    phrases()
    lines.put("phrases", "read_ms", (time.perf_counter() - begun) * 1000, "ms")
    for part in ("build", "measured", "blind", "opened", "situations", "heldout", "unseen"):
        path = DATA / f"{part}.jsonl"
        if not path.exists():
            continue
        found = score(utterances(path))
        lines.put(part, "utterances", found.utterances, "utterances")
        lines.put(part, "false_actions", len(found.false_actions), "utterances")
        recall = {str(intent): round(share, 3) for intent, share in sorted(found.recall.items())}
        lines.put(part, "recall_min_pct", 100 * min(found.recall.values()), "%", by_intent=recall)
        lines.put(part, "recall_pct", 100 * found.recall_of_all, "%")
        lines.put(part, "understood_or_asked_pct", 100 * found.met, "%")
        lines.put(part, "asked_back_pct", 100 * found.asked, "%")
        lines.put(part, "answered_for_nothing_pct", 100 * found.silly, "%")
    times = []
    for row in utterances(DATA / "measured.jsonl"):
        taken = []
        for _ in range(rounds):
            begun = time.perf_counter()
            row.read()
            taken.append((time.perf_counter() - begun) * 1000)
        times.append(min(taken))  # what else the machine does is not the grammar's
    cuts = statistics.quantiles(times, n=100)
    lines.put("measured", "decide_ms", cuts[49], "ms", percentile=50)
    lines.put("measured", "decide_ms", cuts[98], "ms", percentile=99)


if __name__ == "__main__":
    main(sys.argv[1:])
