"""Removes what is over: unused sessions, tokens past their time, jobs and later mail that ended long ago."""

from typing import Any

from control.auth import SESSION_AGE

JOBS_KEPT = "92 days"
LATER_KEPT = "31 days"


async def tidy(pool: Any) -> None:
    """Do it once; harmless again."""
    await pool.execute("delete from sessions where seen_at < now() - $1::interval", SESSION_AGE)
    await pool.execute("delete from join_tokens where expires_at < now() - interval '1 day'")
    await pool.execute(f"delete from jobs where ended_at < now() - interval '{JOBS_KEPT}'")
    await pool.execute(
        f"delete from later where state not in ('waiting', 'running') and received_at < now() - interval '{LATER_KEPT}'"
    )
