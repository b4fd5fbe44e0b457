"""The services that other tests stand on are real, private, and can be killed and restarted."""

import asyncio
import os
from collections.abc import Callable

import asyncpg
import httpx
import pytest

from tests.services import Etcd, Memcached


async def test_each_database_is_fresh(empty_database: str) -> None:
    connection = await asyncpg.connect(empty_database)
    assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    await connection.execute("CREATE TABLE left_open (a int)")


def test_etcd_keeps_its_data_over_a_kill(make_etcd: Callable[..., Etcd]) -> None:
    etcd = make_etcd()
    httpx.post(f"http://{etcd.endpoint}/v3/kv/put", json={"key": "a2V5", "value": "dmFsdWU="}).raise_for_status()
    first = etcd.pid
    etcd.restart()
    assert etcd.pid != first
    found = httpx.post(f"http://{etcd.endpoint}/v3/kv/range", json={"key": "a2V5"}).json()
    assert found["kvs"][0]["value"] == "dmFsdWU="


def test_etcd_with_mtls_turns_strangers_away(make_etcd: Callable[..., Etcd]) -> None:
    etcd = make_etcd(mtls=True)
    assert etcd.answers()
    with pytest.raises(httpx.HTTPError):
        httpx.post(f"https://{etcd.endpoint}/v3/kv/range", json={"key": "a2V5"}, verify=False)


def test_etcd_starts_each_test_without_keys(etcd: Etcd) -> None:
    everything = {"key": "AA==", "range_end": "AA=="}
    assert httpx.post(f"http://{etcd.endpoint}/v3/kv/range", json=everything).json().get("kvs", []) == []


async def test_memcached_answers_on_its_socket(memcached: Memcached) -> None:
    reader, writer = await asyncio.open_unix_connection(memcached.socket)
    writer.write(b"set a 0 0 1\r\nx\r\nget a\r\n")
    assert await reader.readuntil(b"END\r\n") == b"STORED\r\nVALUE a 0 1\r\nx\r\nEND\r\n"
    writer.close()


def test_what_is_killed_is_gone(make_memcached: Callable[[], Memcached]) -> None:
    memcached = make_memcached()
    pid = memcached.pid
    memcached.kill()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
