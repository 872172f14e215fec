"""The files of jobs, what clients sent and what workers made of it, in a folder or an object store."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from serving.jobs.errors import MissingFileError, StoreUnavailableError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

Result = TypeVar("Result")

INPUT = "input"
# Until then requests to an object store are repeated.
RETRY = {"max_retries": 3, "retry_timeout": timedelta(seconds=15)}
CLIENT = {"timeout": "60s", "connect_timeout": "5s"}
# What nobody knows and is older than this was left by a submission that did not come to its end.
ORPHAN_SECONDS = 3_600
DOWNLOAD_BYTES = 2**22


class JobFiles:
    """The files of each job, under its id.

    `url`: a folder, or a bucket and a prefix such as `s3://bucket/tiffin`, also `gs://` and `az://`; what opens it
    stands in the environment as for other clients of these stores, such as AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.folder = None if "://" in url else Path(url)

    @cached_property
    def store(self) -> ObjectStore:
        """The store, opened when it is first used."""
        return open_store(self.url)

    async def put(self, name: str, content: bytes | Path) -> None:
        """Store a file, whole or not at all; in a folder it outlives the machine's crash."""
        await asyncio.to_thread(self.write, name, content)

    def write(self, name: str, content: bytes | Path) -> None:
        """Do what `put` does; the caller has a thread for it."""
        import obstore

        with failures():
            obstore.put(self.store, name, content)
            self.keep(name)

    def keep(self, name: str) -> None:
        """Have a file in a folder outlive the machine's crash, with the folders that may have been made for it."""
        if self.folder is not None:
            flush(self.folder / name, self.folder)

    async def get(self, name: str) -> bytes:
        """Return a file's content."""
        return await self.run(self.read, name)

    def read(self, name: str) -> bytes:
        """Return a file's content; the caller has a thread for it."""
        import obstore

        with failures():
            return bytes(obstore.get(self.store, name).bytes())

    async def download(self, name: str, path: Path) -> None:
        """Write a file to `path`, some of it at a time."""

        def write() -> None:
            import obstore

            with path.open("wb") as file:
                for piece in obstore.get(self.store, name).stream(min_chunk_size=DOWNLOAD_BYTES):
                    file.write(piece)

        await self.run(write)

    async def copy(self, name: str, to: str) -> None:
        """Copy a file; in a folder it outlives the machine's crash."""

        def write() -> None:
            import obstore

            obstore.copy(self.store, name, to)
            if self.folder is not None:
                os.utime(self.folder / to)  # it is a link, and as old as what it links to would be an orphan
            self.keep(to)

        await self.run(write)

    async def size(self, name: str) -> int:
        """Return how many bytes a file has."""

        def ask() -> int:
            import obstore

            return obstore.head(self.store, name)["size"]

        return await self.run(ask)

    async def delete(self, name: str) -> None:
        """Delete all files of a job, or all below a name."""

        def remove() -> None:
            import obstore

            names = [file["path"] for page in obstore.list(self.store, name) for file in page]
            if names:
                obstore.delete(self.store, names)
            if self.folder is not None:
                remove_empty(self.folder / name)

        await self.run(remove)

    async def orphans(self, known: set[str]) -> list[str]:
        """Return the ids that have an old input, and are not known."""

        def find() -> list[str]:
            import obstore

            found = obstore.list_with_delimiter(self.store)["common_prefixes"]
            return [job for job in found if job not in known and self.is_old(job)]

        return await self.run(find)

    def is_old(self, job: str) -> bool:
        """Return whether no file of a job was written lately."""
        import obstore

        times = [file["last_modified"] for page in obstore.list(self.store, job) for file in page]
        if not times and self.folder is not None:  # just made, maybe, for a file that is yet to come
            with contextlib.suppress(FileNotFoundError):
                times = [datetime.fromtimestamp((self.folder / job).stat().st_mtime, UTC)]
        return not times or max(times) < datetime.now(UTC) - timedelta(seconds=ORPHAN_SECONDS)

    async def run(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Call a function in a thread; raise StoreUnavailableError where the store fails."""
        with failures():
            return await asyncio.to_thread(work, *arguments)


def open_store(url: str) -> ObjectStore:
    """Return the store at an address, or in a folder, which is made."""
    from obstore.store import LocalStore, from_url  # takes 16 MB, which servers without jobs are spared

    if "://" not in url:
        return LocalStore(url, mkdir=True)
    options: Any = {"retry_config": RETRY, "client_options": CLIENT}
    if os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://"):
        options["client_options"] = {**CLIENT, "allow_http": True}
    return from_url(url, **options)


@contextlib.contextmanager
def failures() -> Iterator[None]:
    """Raise StoreUnavailableError for what the code inside raises where the store fails, or has no such file."""
    from obstore.exceptions import BaseError, NotFoundError

    try:
        yield
    except (BaseError, OSError) as error:
        # The first line; below it stand the request and its address.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        kind = MissingFileError if isinstance(error, NotFoundError | FileNotFoundError) else StoreUnavailableError
        raise kind(f"the files of the job store failed: {reason}") from error


def flush(file: Path, root: Path) -> None:
    """Wait until a file, and its place in the folders up to `root`, are on the disk."""
    folders = [root / part for part in file.relative_to(root).parents]
    for path in (file, *folders) if os.name == "posix" else ():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_empty(folder: Path) -> None:
    """Remove a folder of empty folders; one that is being written to stays."""
    for path, _, _ in os.walk(folder, topdown=False):
        try:
            Path(path).rmdir()
        except OSError:
            return
