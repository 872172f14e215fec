"""Kill workers, servers and stores while they do background jobs, and see that no job, row or submission is lost.

Run as `python -m tests.kills --kills 200 --stores ENVIRONMENT`. Half of the kills go to a server that does its jobs
itself, with a folder as store; half to a server with two workers and PostgreSQL, any of which may be killed, and a
bucket. At the end every job must have the result that an upload of its file has.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil

from loadtest import inputs
from loadtest.processes import free_port, store_home, tiffin_command
from serving.jobs.background import SCHEMA
from serving.jobs.database import PAUSE_SECONDS, Database, Transaction
from serving.jobs.errors import StoreUnavailableError
from serving.jobs.leases import MAX_CRASHES
from tests.support import ROOT
from tests.support.job_stores import FolderStores, Stores, shared_stores

LEASE_SECONDS = 2
START_SECONDS, END_SECONDS = 120, 300
# Of a log, where something was lost.
LOG_CHARACTERS = 4_000
# Unfinished jobs at a time, of so many files; and texts of one, in chunks of 256, which take a second or so each.
JOBS, FILES, TEXTS = 2, 4, 640
# How long a killed worker stays away, while the other goes on; the last one for longer than a lease.
AWAY_SECONDS = (0.0, 0.5, 1.5 * LEASE_SECONDS)
# Share of the kills that do not wait until a chunk is being computed.
ANYTIME = 0.2
SETTINGS: dict[str, Any] = {
    "models": "sentiment",
    "job_lease_seconds": LEASE_SECONDS,
    "timeout_seconds": 60,
    "job_metrics_port": 0,
}


class Victim:
    """A server or a worker, whose processes are killed at once."""

    def __init__(self, name: str, command: list[str], env: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.command = command
        self.env = {**os.environ, **env}
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None
        self.absent_until = 0.0

    def start(self) -> None:
        """Start it."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, cwd=ROOT, env=self.env, stdout=log, stderr=log)

    def kill(self, away_seconds: float = 0.0) -> None:
        """Kill all of its processes; it may be started again after so many seconds."""
        if self.process is not None:
            whole = psutil.Process(self.process.pid)
            for process in [whole, *whole.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            self.process.wait()
            self.process = None
        self.absent_until = time.monotonic() + away_seconds

    def start_again(self) -> None:
        """Start it where its time has come."""
        if self.process is None and time.monotonic() >= self.absent_until:
            self.start()


class Trial:
    """Jobs on one kind of stores, and what is killed meanwhile."""

    def __init__(self, stores: Stores, victims: list[Victim], address: str, draw: random.Random) -> None:
        self.stores = stores
        self.victims = victims
        self.client = httpx.Client(base_url=address, timeout=60)
        self.draw = draw
        url = stores.env["TIFFIN_JOB_STORE"]
        self.database = Database(url if "://" in url else f"{url}/jobs.sqlite", SCHEMA.read_text(encoding="utf-8"))
        # Ids by idempotency key, once the server has given them; None until then.
        self.jobs: dict[str, str | None] = {}
        self.killed: dict[str, int] = {}
        self.computing = 0

    def keep_busy(self) -> None:
        """Submit jobs until as many as may be are unfinished; those whose submission failed are submitted again."""
        with contextlib.suppress(httpx.HTTPError):
            for key in [key for key, job in self.jobs.items() if job is None]:
                self.submit(key)
            while self.count("SELECT count(*) AS found FROM jobs WHERE state IN {active}") < JOBS:
                key = f"job-{len(self.jobs)}"
                self.jobs[key] = None
                self.submit(key)

    def submit(self, key: str) -> None:
        """Submit a job, or submit it again; note its id."""
        response = self.client.post(
            "/sentiment/score/submit",
            files={"file": text_file(key)},
            headers={"Idempotency-Key": key},
        )
        if response.status_code == 202:
            self.jobs[key] = response.json()["task_id"]
        elif response.status_code != 503:
            raise AssertionError(f"{key} was answered {response.status_code}: {response.text}")

    def count(self, statement: str) -> float:
        """Return the number that a statement finds; nan, which is no number, while the database does not answer."""
        try:
            return float(self.database.transact(lambda transaction: found(transaction, statement)))
        except StoreUnavailableError:
            time.sleep(0.2)
            return math.nan

    def kill(self) -> None:
        """Kill something at a random moment, mostly while a chunk is being computed."""
        time.sleep(self.draw.uniform(0.1, 1.0))
        anytime = self.draw.random() < ANYTIME
        deadline = time.monotonic() + START_SECONDS
        while not self.may_kill(anytime=anytime) and time.monotonic() < deadline:
            self.revive()
            self.keep_busy()
            time.sleep(0.1)
        self.computing += self.is_computing()
        victim = self.draw.choice([*self.alive(), *([None] if self.stores.has_process else [])])
        name = victim.name if victim else "database"
        self.killed[name] = self.killed.get(name, 0) + 1
        if victim is None:
            self.stores.kill()
        else:
            victim.kill(self.draw.choice(AWAY_SECONDS))

    def may_kill(self, *, anytime: bool) -> bool:
        """Return whether there is something to kill, and no chunk that one more crash could make fail for good."""
        crashes = self.count("SELECT COALESCE(max(crashes), 0) AS found FROM chunks WHERE result IS NULL")
        return bool(self.alive()) and crashes < MAX_CRASHES - 1 and (anytime or self.is_computing())

    def alive(self) -> list[Victim]:
        """Return what can be killed, beside the database."""
        return [victim for victim in self.victims if victim.process is not None]

    def is_computing(self) -> bool:
        """Return whether a chunk of rows is being computed."""
        statement = (
            "SELECT count(*) AS found FROM chunks WHERE number >= 0 AND lease IS NOT NULL AND result IS NULL"
            " AND due_at > {now}"
        )
        return self.count(statement) > 0

    def revive(self) -> None:
        """Start again what may be."""
        for victim in self.victims:
            victim.start_again()

    def run(self, kills: int) -> None:
        """Kill so often, then wait for all jobs."""
        for _ in range(kills):
            self.revive()
            self.keep_busy()
            self.kill()
        deadline = time.monotonic() + END_SECONDS
        while None in self.jobs.values() or self.count("SELECT count(*) AS found FROM jobs WHERE state IN {active}"):
            assert time.monotonic() < deadline, f"unfinished after {END_SECONDS} s: {self.jobs}"
            self.revive()
            with contextlib.suppress(httpx.HTTPError):
                for key in [key for key, job in self.jobs.items() if job is None]:
                    self.submit(key)
            time.sleep(0.2)
        wait_until_ready(self.client)
        time.sleep(PAUSE_SECONDS)  # in which a database that was killed is passed over
        self.check()

    def check(self) -> None:
        """Fail unless each submission is one job, with the result of an upload."""
        ids = {row["id"] for row in self.database.transact(lambda transaction: transaction.rows("SELECT id FROM jobs"))}
        assert set(self.jobs.values()) == ids, f"jobs that nobody knows of: {ids - set(self.jobs.values())}"
        assert len(ids) == len(self.jobs), "a submission is the job of another one"
        right: dict[bytes, Any] = {}
        for key, job in self.jobs.items():
            response = self.client.get("/sentiment/score/get", params={"task_id": job or ""})
            assert response.status_code == 200, f"{key} was answered {response.status_code}: {response.text}"
            file = text_file(key)
            if file not in right:
                uploaded = self.client.post("/sentiment/uploadfile", files={"file": file})
                right[file] = uploaded.raise_for_status().json()
            assert same(response.json(), right[file]), f"{key} has another result than an upload"

    def report(self, name: str) -> str:
        """Return a line that says what was done."""
        crashes = self.count("SELECT COALESCE(sum(crashes), 0) AS found FROM chunks")
        killed = ", ".join(f"{victim} {count}" for victim, count in sorted(self.killed.items()))
        total = sum(self.killed.values())
        return (
            f"{name}: {total} kills ({killed}), {self.computing} while chunks were computed; "
            f"{crashes:.0f} chunks taken over, {len(self.jobs)} jobs of {TEXTS:,} texts, none lost, "
            "no row missing or twice"
        )


def found(transaction: Transaction, statement: str) -> Any:
    """Return the number in the only row of a statement."""
    return transaction.rows(statement)[0]["found"]


def same(job: dict[str, list[Any]], upload: dict[str, list[Any]]) -> bool:
    """Return whether two results have the same rows, but for the last digits of numbers."""
    scores = zip(job["score"], upload["score"], strict=True)
    return job["label"] == upload["label"] and all(abs(one - other) < 1e-6 for one, other in scores)


def text_file(key: str) -> bytes:
    """Return the file of texts of a job."""
    first = int(key.rpartition("-")[2]) % FILES * TEXTS
    numbers = range(first, first + TEXTS)
    return "".join(f"{json.dumps({'text': inputs.text(number)})}\n" for number in numbers).encode()


def wait_until_ready(client: httpx.Client) -> None:
    """Wait until the server takes requests."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if client.get("/readyz").status_code == 200:
                return
        assert time.monotonic() < deadline, "the server did not become ready"
        time.sleep(0.1)


@contextlib.contextmanager
def victims(stores: Stores, workers: int, folder: Path) -> Iterator[tuple[list[Victim], str]]:
    """Start a server, with so many workers apart; yield them, and the server's address."""
    port = free_port()
    command, env = tiffin_command(store_home(), folder, port, (), job_worker=not workers, **SETTINGS)
    env |= stores.env
    serving = Victim("server", command, env, folder / "server.log")
    apart = [sys.executable, "-m", "serving.jobs.worker"]
    started = [serving, *(Victim(f"worker {place}", apart, env, folder / f"{place}.log") for place in range(workers))]
    for victim in started:
        victim.start()
    try:
        yield started, f"http://127.0.0.1:{port}"
    finally:
        for victim in started:
            victim.kill()


def run(name: str, stores: Stores, workers: int, kills: int, draw: random.Random) -> None:
    """Make so many kills on one kind of stores; fail where something is lost."""
    with (
        tempfile.TemporaryDirectory(prefix="tiffin-kills-") as folder,
        victims(stores, workers, Path(folder)) as (started, address),
    ):
        trial = Trial(stores, started, address, draw)
        wait_until_ready(trial.client)
        try:
            trial.run(kills)
        except BaseException:
            for victim in started:
                sys.stderr.write(f"--- {victim.name}\n{victim.log.read_text(errors='replace')[-LOG_CHARACTERS:]}\n")
            raise
        print(trial.report(name), flush=True)
        assert trial.computing * 2 >= kills, "most kills found no chunk being computed"


def main() -> None:
    """Read the command line, and kill."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200, help="how often something is killed (200)")
    parser.add_argument("--stores", type=Path, required=True, help="environment with requirements/stores.txt")
    parser.add_argument("--seed", type=int, default=random.randrange(2**31), help="of what is killed when")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    draw = random.Random(arguments.seed)
    half = arguments.kills // 2
    with tempfile.TemporaryDirectory(prefix="tiffin-jobs-") as folder:
        run("folder", FolderStores(Path(folder)), 0, half, draw)
    with shared_stores(arguments.stores) as shared:
        run("PostgreSQL and a bucket", shared, 2, arguments.kills - half, draw)


if __name__ == "__main__":
    main()
