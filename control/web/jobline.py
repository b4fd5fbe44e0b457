"""A release as one line: what it is doing, or how it ended. Pure."""

from dataclasses import dataclass

from control.quarantine.release import Job

TITLES = {
    "queued": ("Waiting to be delivered", "info"),
    "running": ("Being delivered", "info"),
    "done": ("Delivered", "good"),
    "failed": ("Not delivered", "bad"),
    "cancelled": ("Taken back", "info"),
    "unknown": ("The connection broke after the mail was sent; look in the mailbox before you deliver again", "warn"),
}


@dataclass(frozen=True, slots=True)
class JobLine:
    """What `_job_line.html` shows."""

    id: str
    open: bool
    tone: str
    title: str
    outcome: str


def line(job: Job) -> JobLine:
    """The line of a job."""
    title, tone = TITLES[job.state]
    if job.recipient:
        title = f"{title} to {job.recipient}"
    return JobLine(job.id, job.is_open, tone, title, job.outcome.removeprefix("delivered: "))
