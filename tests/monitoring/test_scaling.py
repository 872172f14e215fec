"""The query by which KEDA scales workers counts what these can compute."""

from __future__ import annotations

import asyncio
from pathlib import Path

import yaml

from serving.inference.registry import ModelId
from serving.jobs.background import SCHEMA
from serving.jobs.database import Database
from serving.jobs.leases import Leases
from serving.jobs.store import JobStore, Limits, Submission
from tests.support import ROOT

SCALED = ROOT / "k8s" / "components" / "jobs-keda" / "scaled-object.yaml"
MODEL = ModelId("a", "1")


def query() -> str:
    scaled, _ = yaml.safe_load_all(SCALED.read_text(encoding="utf-8"))
    (trigger,) = scaled["spec"]["triggers"]
    return str(trigger["metadata"]["query"])


def test_workers_are_scaled_by_the_chunks_that_are_left(tmp_path: Path) -> None:
    database = Database(str(tmp_path / "jobs.sqlite"), SCHEMA.read_text(encoding="utf-8"))
    store, leases = JobStore(database, Limits(10, 1000)), Leases(database, 30)

    async def count() -> int:
        return await database.run(lambda transaction: int(transaction.rows(query())[0]["count(*)"]))

    async def counts() -> list[int]:
        found = [await count()]
        for job in ("one", "two"):
            await store.submit(Submission(job, "", MODEL, "", 1, None, None))
        found.append(await count())
        file = await leases.claim([MODEL])
        assert file is not None
        await leases.plan(file, [5_000, 5_000, 17], 0)
        found.append(await count())
        chunk = await leases.claim([MODEL])
        assert chunk is not None
        found.append(await count())
        await leases.complete(chunk, "result")
        found.append(await count())
        for job in ("one", "two"):
            await store.cancel(job, "")
        return [*found, await count()]

    try:
        # None; two files; one file and three chunks, one of which is being computed; a chunk less; none.
        found = asyncio.run(counts())
    finally:
        database.close()
    assert found == [0, 2, 4, 4, 3, 0]
