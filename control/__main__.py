"""`python -m control panel|receiver|janitor|publisher|migrate|dictionary --config control.toml`: the control plane.

`backup --to PLACE` and `restore --from PLACE [--at TIME] [--replace]` copy it away and bring it back; PLACE is a
directory or an object store's URL.
"""

import argparse
from datetime import UTC, datetime
from importlib import import_module

from monitoring import log
from syncd import config

PROCESSES = {
    "panel": "control.panel",
    "receiver": "control.receiver",
    "janitor": "control.janitor",
    "publisher": "control.publisher",
    "migrate": "control.store.migrate",
    "dictionary": "control.quarantine.dictionary",
}


def main() -> None:
    """Start one process of the control plane and run it until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m control", description=__doc__)
    parser.add_argument("process", choices=[*PROCESSES, "backup", "restore"])
    parser.add_argument("--config", required=True, help="the control plane's TOML file")
    parser.add_argument("--metrics-port", type=int, default=0, help="port of /metrics, /live and /ready")
    parser.add_argument("--to", help="where the backup goes")
    parser.add_argument("--from", dest="place", help="where the backups are")
    parser.add_argument("--at", type=_time, help="restore the newest backup of not after this time (RFC 3339)")
    parser.add_argument("--replace", action="store_true", help="restore over a database that is not empty")
    arguments = parser.parse_args()
    settings = config.load(arguments.config, config.Control)
    log.configure(arguments.process)
    if arguments.process in ("backup", "restore"):
        _copy(parser, settings, arguments)
        return
    import_module(PROCESSES[arguments.process]).run(settings, metrics_port=arguments.metrics_port)


def _copy(parser: argparse.ArgumentParser, settings: config.Control, arguments: argparse.Namespace) -> None:
    if arguments.process == "backup":
        if not arguments.to:
            parser.error("backup needs --to")
        import_module("control.backup").run(settings, arguments.to)
        return
    if not arguments.place:
        parser.error("restore needs --from")
    import_module("control.restore").run(settings, arguments.place, at=arguments.at, replace=arguments.replace)


def _time(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


if __name__ == "__main__":
    main()
