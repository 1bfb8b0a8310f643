"""The whole way: read everything of one group and its stream, recompute, compare."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from tests.harness.server import Server

from .compare import check
from .expect import Expected, Query, expect
from .judge import epochs, judge
from .observe import Observed, observe
from .records import Decoder, Record, over_http, registry
from .watermarks import Stream, check_watermarks


@dataclass
class Verified:
    """What was compared."""

    expected: Expected
    observed: Observed


def verify(
    server: Server,
    stream: str,
    group: str,
    query: Query,
    *,
    records: Iterable[Record] | None = None,
    registry_url: str | None = None,
) -> Verified:
    """Fails unless all that the server shows of the group equals the recomputation.

    `records`: from Kafka; default: over HTTP. `registry_url`: default: the embedded one.
    """
    http = server.http
    definition = server.get(f"/api/v1/streams/{stream}")
    schema = definition["schema"]
    reader = json.loads(schema) if isinstance(schema, str) else schema
    decode = Decoder(reader, registry(registry_url or f"{server.url}/schema-registry"))
    observed = observe(http, stream, group)
    journal = epochs(observed.journal)
    skew = round(definition["max_future_skew"] * 1_000_000)
    delay = round(definition["watermark_delay"] * 1_000_000)
    judged = judge(
        over_http(http, stream) if records is None else records,
        journal,
        decode,
        query.rules(skew),
    )
    check_watermarks(Stream.of(definition), journal, judged)
    expected = expect(query, judged, journal, delay)
    check(expected, observed)
    return Verified(expected, observed)
