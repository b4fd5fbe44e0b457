"""`python -m mx worker|follow|spool --config node.toml`: the processes of one node."""

import argparse
from importlib import import_module

from monitoring import log
from syncd import config

PROCESSES = {"worker": "mx.worker", "follow": "mx.follow", "spool": "mx.spool"}


def main() -> None:
    """Start one process of a node and run it until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m mx", description=__doc__)
    parser.add_argument("process", choices=PROCESSES)
    parser.add_argument("--config", required=True, help="the node's TOML file")
    parser.add_argument("--metrics-port", type=int, required=True, help="port of /metrics, /live and /ready")
    parser.add_argument("--number", type=int, default=1, help="which worker of the node this is")
    arguments = parser.parse_args()
    node = config.load(arguments.config, config.Node)
    log.configure(f"{arguments.process}{arguments.number if arguments.process == 'worker' else ''}", node=node.name)
    import_module(PROCESSES[arguments.process]).run(node, metrics_port=arguments.metrics_port, number=arguments.number)


if __name__ == "__main__":
    main()
