"""The number of users over time: by the profile's points or steps, until the autoscaler acts if that is its end."""

from __future__ import annotations

import subprocess

from locust import LoadTestShape
from locust.runners import WORKER_REPORT_INTERVAL, MasterRunner

from loadtest.openapi import ServerError
from loadtest.profiles import STEPS, Measured
from loadtest.report import Report, Snapshot

# Users started or stopped per second; Locust warns about more.
SPAWN_RATE = 100.0
SCALE_SECONDS = 5.0
KUBECTL_SECONDS = 10


def ready_replicas(deployment: str, namespace: str | None) -> int:
    """Return how many pods of a Deployment are ready; raise ServerError if kubectl cannot tell."""
    command = ["kubectl", "get", "deployment", deployment, "--output", "jsonpath={.status.readyReplicas}"]
    if namespace:
        command += ["--namespace", namespace]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=KUBECTL_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip()
        raise ServerError(f"kubectl does not tell the replicas of {deployment}: {reason}") from error
    return int(done.stdout or 0)


def last_good(found: Measured, users: int) -> str:
    """Return a note with the last good rate, which the profile `steps` is meant to find."""
    return f"last good rate: {found.rate:.1f} requests/s with {users} users"


class ProfileShape(LoadTestShape):
    """The load of a profile; `report` is set before the test starts."""

    report: Report
    deployment: str | None = None
    namespace: str | None = None
    replicas = 0

    def watch(self, deployment: str, namespace: str | None) -> None:
        """End the test once this Deployment has more ready pods than now; raise ServerError if kubectl cannot tell."""
        self.replicas = ready_replicas(deployment, namespace)
        self.deployment, self.namespace = deployment, namespace

    def reset_time(self) -> None:
        """Start over from the first second."""
        super().reset_time()  # type: ignore[no-untyped-call]
        self.next_look = SCALE_SECONDS
        self.over_seconds = 0.0
        self.step = 0
        self.settled: Snapshot | None = None
        self.good: Measured | None = None

    def tick(self) -> tuple[int, float] | None:
        """Return the number of users now and how fast it is reached, None at the end."""
        load = None if self.over_seconds else self.load()
        if load is not None:
            return load
        seconds = self.get_run_time()  # type: ignore[no-untyped-call]
        self.over_seconds = self.over_seconds or seconds
        # When Locust itself ends a test, it does not wait for the last reports of workers.
        if isinstance(self.runner, MasterRunner) and (
            self.runner.user_count or seconds < self.over_seconds + WORKER_REPORT_INTERVAL + 1
        ):
            return 0, SPAWN_RATE
        return None

    def load(self) -> tuple[int, float] | None:
        """Return what `tick` does until the profile is over, then None."""
        seconds = self.get_run_time()  # type: ignore[no-untyped-call]
        profile = self.report.profile
        if (profile.until_scaled and self.scaled(seconds)) or (profile.in_steps and self.broken(seconds)):
            return None
        users = profile.users_at(seconds)
        if users is None and profile.until_scaled and self.deployment:
            self.miss(f"{self.deployment} still has {self.replicas} ready replicas after {seconds:.0f} s of load")
        return None if users is None else (users, SPAWN_RATE)

    def miss(self, note: str) -> None:
        """Fail the run and note why."""
        self.report.missed = True
        self.report.notes.append(note)

    def scaled(self, seconds: float) -> bool:
        """Return whether the autoscaler has added ready pods."""
        if self.deployment is None or seconds < self.next_look:
            return False
        self.next_look = seconds + SCALE_SECONDS
        try:
            now = ready_replicas(self.deployment, self.namespace)
        except ServerError:
            return False  # the API server may be unavailable for a moment
        if now > self.replicas:
            self.report.notes.append(
                f"{self.deployment} went from {self.replicas} to {now} ready replicas after {seconds:.0f} s of load"
            )
        return now > self.replicas

    def broken(self, seconds: float) -> bool:
        """Return whether an objective broke in the step that has just ended, and note the last good step."""
        length = self.report.profile.seconds / STEPS
        if self.settled is None and seconds >= (self.step + 1 / 3) * length:
            self.settled = self.report.snapshot()
        if self.settled is None or seconds < (self.step + 1) * length:
            return False
        found = self.report.snapshot().since(self.settled)
        missed = [verdict for verdict in self.report.objectives.judge(found) if not verdict.met]
        users = 2**self.step
        if not missed:
            self.good = found
            self.step, self.settled = self.step + 1, None
            if self.step == STEPS:
                self.report.notes.append(f"{last_good(found, users)}, the most tried")
            return False
        broke = f"with {users} users {', '.join(map(str, missed))}"
        if self.good is None:
            self.miss(f"no good rate: {broke}")
        else:
            self.report.notes.append(f"{last_good(self.good, users // 2)}; {broke}")
        return True
