"""A thin asyncio client of the etcd v3 API over gRPC: one channel to one endpoint, and an end to it when it is silent.

The only file that knows gRPC. A connection is never mended: whoever gets `EtcdAway` closes it and dials another one,
because a new call on an old channel uses the same dead connection again. An `Etcd` belongs to one owner, who closes
it; the channel keeps its subchannels to itself (`grpc.use_local_subchannel_pool`) for the same reason.

The stubs are generated from `etcd.proto` beside this file (messages only), by

    python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. syncd/etcd.proto
"""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Never, Self

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # read at import; its handlers break children of a fork

import grpc
from grpc import StatusCode

from syncd import etcd_pb2 as pb
from syncd.config import Etcd as Place
from syncd.kv import (
    PAGE,
    Changes,
    Compacted,
    EtcdAway,
    EtcdError,
    EtcdRefused,
    Guard,
    Item,
    LeaseGone,
    Page,
    TooLarge,
    Write,
)

CALL_S = 3.0
"""For one answer to a small question."""
PAGE_S = 20.0
"""For one page of a load; a page is some 6 MB."""
HEARTBEAT_S = 2.5
"""A watch that was silent for so long is asked for a sign of life (a progress request)."""
SILENT_S = 5.0
"""A watch that was silent for so long has no connection any more. gRPC's own keepalive took 61 s to notice."""
MAX_ANSWER_BYTES = 64 * 1024 * 1024

_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    # etcd answers pings faster than every 5 s with GOAWAY; the watch's heartbeat is what notices a dead peer.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
    ("grpc.max_send_message_length", MAX_ANSWER_BYTES),
)


class Etcd:
    """One connection. `attempt` picks the endpoint, so that counting it up tries each in turn."""

    def __init__(self, place: Place, attempt: int = 0) -> None:
        self.endpoint = place.endpoints[attempt % len(place.endpoints)]
        self._channel = _channel(place, self.endpoint)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Drop the connection; calls under way end with EtcdAway."""
        await self._channel.close(None)

    async def get(self, key: str, *, revision: int = 0) -> Page:
        """One key, or none, as it is or as it was at `revision`. Raises EtcdAway, Compacted."""
        return await self._range(pb.RangeRequest(key=key.encode(), revision=revision), CALL_S)

    async def pages(
        self, first: str, end: str, *, revision: int = 0, page: int = PAGE, keys_only: bool = False
    ) -> AsyncIterator[Page]:
        """Keys from `first` up to, not with, `end`, all at one revision: the given one, or that of the first page.

        Values of a page are held at once; `page` is cut where they are too large. Raises EtcdAway, Compacted.
        """
        while True:
            request = pb.RangeRequest(key=first.encode(), range_end=end.encode(), revision=revision, limit=page)
            request.keys_only = keys_only
            try:
                found = await self._range(request, PAGE_S)
            except TooLarge:
                if page == 1:
                    raise
                page = max(1, page // 8)
                continue
            revision = revision or found.revision
            yield Page(found.items, revision, found.cluster)
            if len(found.items) < page:
                return
            first = found.items[-1].key + "\0"

    async def read(self, keys: Iterable[str], *, keys_only: bool = False) -> Page:
        """Those of up to `MAX_OPERATIONS` keys that exist, all at one revision. Raises EtcdAway."""
        operations = [
            pb.RequestOp(request_range=pb.RangeRequest(key=key.encode(), keys_only=keys_only)) for key in keys
        ]
        answer = await self._call("KV/Txn", pb.TxnRequest(success=operations), pb.TxnResponse)
        kvs = [kv for each in answer.responses for kv in each.response_range.kvs]
        return Page(tuple(map(_item, kvs)), answer.header.revision, answer.header.cluster_id)

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        """Write one key; returns the revision. Raises EtcdAway (it may have been written), LeaseGone, EtcdRefused."""
        request = pb.PutRequest(key=key.encode(), value=value, lease=lease)
        answer = await self._call("KV/Put", request, pb.PutResponse)
        return int(answer.header.revision)

    async def delete(self, key: str) -> int:
        """Delete one key; returns the revision. Raises EtcdAway, EtcdRefused."""
        request = pb.DeleteRangeRequest(key=key.encode())
        answer = await self._call("KV/DeleteRange", request, pb.DeleteRangeResponse)
        return int(answer.header.revision)

    async def write(self, guards: Sequence[Guard], writes: Sequence[Write], *, lease: int = 0) -> int | None:
        """Do all writes at once if every guard holds. Returns the revision; None when a guard did not hold.

        Raises EtcdAway (then nobody knows whether it was done: read before doing anything more), EtcdRefused.
        """
        compare = [
            pb.Compare(key=each.key.encode(), target=pb.Compare.MOD, mod_revision=each.revision) for each in guards
        ]
        request = pb.TxnRequest(compare=compare, success=[_operation(key, value, lease) for key, value in writes])
        answer = await self._call("KV/Txn", request, pb.TxnResponse)
        return int(answer.header.revision) if answer.succeeded else None

    async def compact(self, revision: int) -> None:
        """Forget what was before `revision`; harmless where that is done already. Raises EtcdAway, EtcdRefused."""
        with suppress(Compacted):
            await self._call("KV/Compact", pb.CompactionRequest(revision=revision), pb.CompactionResponse)

    async def status(self) -> pb.StatusResponse:
        """Version, size and alarms of this member. Raises EtcdAway."""
        answer: pb.StatusResponse = await self._call("Maintenance/Status", pb.StatusRequest(), pb.StatusResponse)
        return answer

    async def grant(self, ttl_s: int) -> int:
        """A new lease. Raises EtcdAway, EtcdRefused."""
        answer = await self._call("Lease/LeaseGrant", pb.LeaseGrantRequest(TTL=ttl_s), pb.LeaseGrantResponse)
        return int(answer.ID)

    async def keep_alive(self, lease: int) -> None:
        """Let a lease begin anew. Raises LeaseGone, EtcdAway."""
        call = self._stream("Lease/LeaseKeepAlive", pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse)
        try:
            async with asyncio.timeout(CALL_S):
                await call.write(pb.LeaseKeepAliveRequest(ID=lease))
                answer = await call.read()
        except _FAILURES as error:
            _raise(error)
        finally:
            call.cancel()
        if not isinstance(answer, pb.LeaseKeepAliveResponse):
            raise EtcdAway("the keep-alive stream ended")
        if answer.TTL <= 0:
            raise LeaseGone(f"lease {lease:x} has ended")

    async def revoke(self, lease: int) -> None:
        """End a lease and what lives by it. Raises EtcdAway, LeaseGone."""
        await self._call("Lease/LeaseRevoke", pb.LeaseRevokeRequest(ID=lease), pb.LeaseRevokeResponse)

    async def watch(self, first: str, end: str, *, since: int) -> AsyncGenerator[Changes, None]:
        """Every change of a range from revision `since` on, a revision's changes always together.

        At least every `SILENT_S` it yields something or raises: EtcdAway for silence or a broken connection, Compacted
        when `since` is no longer kept. Close it (`contextlib.aclosing`) when leaving early.
        """
        call = self._stream("Watch/Watch", pb.WatchRequest, pb.WatchResponse)
        create = pb.WatchCreateRequest(key=first.encode(), range_end=end.encode(), start_revision=since)
        try:
            await _write(call, pb.WatchRequest(create_request=create))
            async for answer in _answers(call):
                yield _changes(answer)
        except _FAILURES as error:
            _raise(error)
        finally:
            call.cancel()

    async def _range(self, request: pb.RangeRequest, timeout_s: float) -> Page:
        answer = await self._call("KV/Range", request, pb.RangeResponse, timeout_s)
        return Page(tuple(map(_item, answer.kvs)), answer.header.revision, answer.header.cluster_id)

    async def _call(self, path: str, request: Any, answer: Any, timeout_s: float = CALL_S) -> Any:
        method = self._channel.unary_unary(
            f"/etcdserverpb.{path}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        try:
            return await method(request, timeout=timeout_s)
        except _FAILURES as error:
            _raise(error)

    def _stream(self, path: str, request: Any, answer: Any) -> Any:
        return self._channel.stream_stream(
            f"/etcdserverpb.{path}",
            request_serializer=request.SerializeToString,
            response_deserializer=answer.FromString,
        )()


_FAILURES = (
    grpc.aio.AioRpcError,
    grpc.aio.UsageError,
    asyncio.InvalidStateError,  # a write to a stream that has ended
    TimeoutError,
    asyncio.CancelledError,
)


async def _answers(call: Any) -> AsyncIterator[pb.WatchResponse]:
    """Answers of a watch as they come; asks for a sign of life in between, and raises EtcdAway when none comes."""
    heard = time.monotonic()
    reading = asyncio.ensure_future(call.read())
    try:
        while True:
            await asyncio.wait({reading}, timeout=HEARTBEAT_S)
            if reading.done():
                answer, reading = reading.result(), asyncio.ensure_future(call.read())
                if not isinstance(answer, pb.WatchResponse):
                    raise EtcdAway("the watch ended")
                heard = time.monotonic()
                yield answer
            elif time.monotonic() - heard >= SILENT_S - 0.1:
                raise EtcdAway(f"the watch was silent for {SILENT_S:g} s")
            else:
                await _write(call, pb.WatchRequest(progress_request=pb.WatchProgressRequest()))
    finally:
        reading.cancel()


async def _write(call: Any, request: pb.WatchRequest) -> None:
    async with asyncio.timeout(HEARTBEAT_S):
        await call.write(request)


def _changes(answer: pb.WatchResponse) -> Changes:
    if answer.compact_revision:
        raise Compacted(f"compacted up to {answer.compact_revision}")
    if answer.canceled:
        raise EtcdAway(f"the watch was cancelled: {answer.cancel_reason or 'no reason given'}")
    items = (
        Item(event.kv.key.decode(), None if event.type == pb.Event.DELETE else event.kv.value, event.kv.mod_revision)
        for event in answer.events
    )
    return Changes(tuple(items), answer.header.revision)


def _item(kv: pb.KeyValue) -> Item:
    return Item(kv.key.decode(), kv.value, kv.mod_revision)


def _operation(key: str, value: bytes | None, lease: int) -> pb.RequestOp:
    if value is None:
        return pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key.encode()))
    return pb.RequestOp(request_put=pb.PutRequest(key=key.encode(), value=value, lease=lease))


def _channel(place: Place, endpoint: str) -> Any:
    if place.tls is None:
        return grpc.aio.insecure_channel(endpoint, options=_OPTIONS)
    try:
        ca, key, cert = (Path(name).read_bytes() for name in (place.tls.ca, place.tls.key, place.tls.cert))
    except OSError as error:
        raise EtcdAway(f"the certificate for etcd cannot be read: {error}") from error
    return grpc.aio.secure_channel(endpoint, grpc.ssl_channel_credentials(ca, key, cert), options=_OPTIONS)


_BY_CODE: dict[StatusCode, Callable[[str], EtcdError]] = {
    StatusCode.OUT_OF_RANGE: Compacted,
    StatusCode.NOT_FOUND: LeaseGone,
    **dict.fromkeys(
        (
            StatusCode.INVALID_ARGUMENT,
            StatusCode.PERMISSION_DENIED,
            StatusCode.UNAUTHENTICATED,
            StatusCode.FAILED_PRECONDITION,
            StatusCode.UNIMPLEMENTED,
            StatusCode.ALREADY_EXISTS,
        ),
        EtcdRefused,
    ),
}


def _raise(error: BaseException) -> Never:
    """Our own error for one of gRPC's. A cancellation is ours only where nobody cancelled us (a closed channel)."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise error
        raise EtcdAway("the connection was closed") from error
    if not isinstance(error, grpc.aio.AioRpcError):
        raise EtcdAway(str(error) or "no answer in time") from error
    code, details = error.code(), error.details() or ""
    if code is StatusCode.RESOURCE_EXHAUSTED:
        raise (EtcdRefused if details.startswith("etcdserver") else TooLarge)(details) from error
    raise _BY_CODE.get(code, EtcdAway)(f"{code.name}: {details}") from error
