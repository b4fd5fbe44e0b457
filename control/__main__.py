"""`python -m control panel|receiver|janitor|publisher|migrate|dictionary --config control.toml`: the control plane."""

import argparse
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
    parser.add_argument("process", choices=PROCESSES)
    parser.add_argument("--config", required=True, help="the control plane's TOML file")
    parser.add_argument("--metrics-port", type=int, default=0, help="port of /metrics, /live and /ready")
    arguments = parser.parse_args()
    settings = config.load(arguments.config, config.Control)
    log.configure(arguments.process)
    import_module(PROCESSES[arguments.process]).run(settings, metrics_port=arguments.metrics_port)


if __name__ == "__main__":
    main()
