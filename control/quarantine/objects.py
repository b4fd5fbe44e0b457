"""The object store of the packs, by URL: `file:///…`, or `s3://bucket/prefix` with the usual AWS_* variables.

The only file that knows obstore. Every wait has a deadline; an object is there, or gone, or cannot be asked for now.
"""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore, from_url

READ_WITHIN_S = 10.0
PUT_WITHIN_S = 300.0
LIST_WITHIN_S = 60.0


class Gone(Exception):
    """There is no such object, or not so many bytes in it."""


class Away(Exception):
    """The store cannot be asked now; it may be tried again."""


class Objects:
    """Objects by name. Made without the store: the first use opens it."""

    def __init__(self, url: str) -> None:
        self._url = url
        parts = urlsplit(url)
        self._root = Path(unquote(parts.path)) if parts.scheme == "file" else None
        self._opened: ObjectStore | None = None

    async def put(self, name: str, file: Path, *, is_new: bool = False) -> None:
        """Store a file whole, durably when this returns; with `is_new`, never over another. Raises Away."""
        try:
            async with asyncio.timeout(PUT_WITHIN_S):
                await obstore.put_async(self._store(), name, file, mode="create" if is_new else "overwrite")
                if self._root:
                    await asyncio.to_thread(_make_durable, self._root, name)
        except (BaseError, OSError, TimeoutError) as error:
            raise _away("put", name, error) from error

    async def get(self, name: str, offset: int | None = None, size: int = 0) -> bytes:
        """An object, or `size` bytes of it from `offset` on. Raises Gone, Away."""
        try:
            async with asyncio.timeout(READ_WITHIN_S):
                if offset is None:
                    return bytes(await (await obstore.get_async(self._store(), name)).bytes_async())
                return bytes(await obstore.get_range_async(self._store(), name, start=offset, length=size))
        except FileNotFoundError as error:
            raise Gone(name) from error
        except (BaseError, OSError, TimeoutError) as error:
            if await self._shorter_than(name, offset):
                raise Gone(f"{name} has no byte {offset}") from error
            raise _away("get", name, error) from error

    async def remove(self, name: str) -> None:
        """Have no such object. Raises Away."""
        try:
            async with asyncio.timeout(READ_WITHIN_S):
                await obstore.delete_async(self._store(), name)
        except FileNotFoundError:
            return
        except (BaseError, OSError, TimeoutError) as error:
            raise _away("remove", name, error) from error

    async def listing(self, directory: str) -> Sequence[str]:
        """Names of all objects in a directory and those below it. Raises Away."""
        try:
            async with asyncio.timeout(LIST_WITHIN_S):
                return [item["path"] async for page in obstore.list(self._store(), directory) for item in page]
        except (BaseError, OSError, TimeoutError) as error:
            raise _away("list", directory, error) from error

    async def directories(self) -> Sequence[str]:
        """Names of the topmost directories. Raises Away."""
        try:
            async with asyncio.timeout(LIST_WITHIN_S):
                found = await obstore.list_with_delimiter_async(self._store())
        except (BaseError, OSError, TimeoutError) as error:
            raise _away("list", "", error) from error
        return [path.rstrip("/") for path in found["common_prefixes"]]

    async def _shorter_than(self, name: str, offset: int | None) -> bool:
        """Whether the object is there and ends before `offset`: stores say that in many ways, none of them a type."""
        if offset is None:
            return False
        try:
            async with asyncio.timeout(READ_WITHIN_S):
                found: Any = await obstore.head_async(self._store(), name)
        except (BaseError, OSError, TimeoutError):
            return False
        return int(found["size"]) <= offset

    def _store(self) -> ObjectStore:
        if self._opened is None:
            more: dict[str, Any] = {"mkdir": True} if self._root else {}
            try:
                self._opened = from_url(self._url, **more)
            except ValueError as error:
                raise OSError(f"{self._url}: {error}") from error
        return self._opened


def _away(act: str, name: str, error: BaseException) -> Away:
    first = str(error).partition("\n")[0] or type(error).__name__
    return Away(f"{act} {name}: {first}")


def _make_durable(root: Path, name: str) -> None:
    """obstore writes files and renames them, but does not flush them to the disk."""
    path = root / name
    for each in (path, *path.parents):
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if each == root:
            return
