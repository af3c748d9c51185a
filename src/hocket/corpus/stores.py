"""Where shards lie: a folder, or an address that fsspec knows (``https://``, ``s3://``, ``gs://`` ...).

A store answers requests for a range of bytes of one file. Requests run beside each other, and each can be
called off: what waits, retries and asks twice is :mod:`hocket.corpus.fetching`.

fsspec: https://filesystem-spec.readthedocs.io; ranges of HTTP: RFC 9110, section 14.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from hocket.core.errors import UsageError

_S3_CONFIG = {"max_pool_connections": 64, "retries": {"total_max_attempts": 1}}


class Store(Protocol):
    """Files that can be read in parts."""

    address: str
    remote: bool
    """Whether reading costs a way over a network, so that what was read is worth keeping."""

    def request(self, name: str, first: int, length: int) -> Future[bytes]:
        """``length`` bytes of a file from byte ``first`` on, or what the store gave instead."""
        ...

    def size(self, name: str) -> Future[int]:
        """Bytes of a file."""
        ...

    def whole(self, name: str) -> Future[bytes]:
        """A small file."""
        ...

    def close(self) -> None:
        """Let go of threads and connections."""
        ...


def open_store(address: str | Path, requests: int, options: Mapping[str, Any]) -> Store:
    """The store at an address: a folder, a ``file://`` URL, or what fsspec has a name for.

    Raises :class:`UsageError` for an address that nobody knows, naming what to install.
    """
    if isinstance(address, Path) or "://" not in address:
        return FolderStore(Path(address), requests)
    if address.startswith("file://"):
        return FolderStore(Path(urlsplit(address).path), requests)
    return FsspecStore(address, options)


class FolderStore:
    """A folder that the system has mounted."""

    remote = False

    def __init__(self, folder: Path, requests: int) -> None:
        self.address, self._folder = str(folder), folder
        self._threads = ThreadPoolExecutor(requests, "hocket-read")

    def request(self, name: str, first: int, length: int) -> Future[bytes]:
        """Read in a thread; a file that ends early gives what there is."""
        return self._threads.submit(self._read, name, first, length)

    def size(self, name: str) -> Future[int]:
        """Bytes of a file."""
        return self._threads.submit(lambda: (self._folder / name).stat().st_size)

    def whole(self, name: str) -> Future[bytes]:
        """A small file."""
        return self._threads.submit((self._folder / name).read_bytes)

    def close(self) -> None:
        """End the threads that wait for nothing."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _read(self, name: str, first: int, length: int) -> bytes:
        file = os.open(self._folder / name, os.O_RDONLY)
        try:
            data = os.pread(file, length, first)
            while len(data) < length and (more := os.pread(file, length - len(data), first + len(data))):
                data += more
            return data
        finally:
            os.close(file)


class FsspecStore:
    """An address that fsspec reads. Its requests are coroutines of fsspec's own thread."""

    remote = True

    def __init__(self, address: str, options: Mapping[str, Any]) -> None:
        self.address = address.rstrip("/")
        protocol = address.split("://")[0]
        given = dict(options)
        if protocol in ("s3", "s3a"):
            given["config_kwargs"] = _S3_CONFIG | dict(given.get("config_kwargs", {}))
        try:
            from fsspec.core import url_to_fs

            self._files, self._root = url_to_fs(
                self.address, skip_instance_cache=True, use_listings_cache=False, **given
            )
        except ImportError as error:
            raise UsageError(
                f"{address}: {error}", "Stores that are far away need more: pip install 'hocket[remote]'"
            ) from error
        except ValueError as error:
            raise UsageError(f"{address}: no such kind of store: {error}") from error
        if not self._files.async_impl:
            raise UsageError(
                f"{address}: {protocol} cannot read several parts at a time",
                "Use https, s3, gs or abfs, or mount it as a folder.",
            )
        if hasattr(self._files, "retries"):
            self._files.retries = 1  # how often to try is decided in one place

    def request(self, name: str, first: int, length: int) -> Future[bytes]:
        """A ranged read."""
        return self._run(self._files._cat_file(self._path(name), start=first, end=first + length))

    def size(self, name: str) -> Future[int]:
        """What the store says of a file."""

        async def ask() -> int:
            return int((await self._files._info(self._path(name)))["size"])

        return self._run(ask())

    def whole(self, name: str) -> Future[bytes]:
        """A small file."""
        return self._run(self._files._cat_file(self._path(name)))

    def close(self) -> None:
        """Connections end with the process: other stores may share fsspec's thread."""

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _run(self, work: Any) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self._files.loop)
