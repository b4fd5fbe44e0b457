"""A node of a local cluster: `python -m control.local.node join N` and `… leave N`.

Joining goes the way a node on another host would go: a one-time token, a certificate request made beside the key
that never leaves the node, and the API's answer written into the node's own directory. Then supervisord gets
one more program group.
"""

import argparse
import shutil
import sys
import time

import httpx

from control.ca import key_pem, make_key, make_request, write_private
from control.local import api, configs, parts, programs, ready, roster, show
from control.local.layout import HOST, MAX_NODES, NODE_PROCESSES, Layout, NodePlace, Unusable, own_directory
from control.local.supervise import Supervisor, add_node

DRAIN_WITHIN_S = 60.0


def main() -> int:
    """Join or leave; 0 when done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("act", choices=("join", "leave"))
    parser.add_argument("number", type=int, help=f"which node: 1 … {MAX_NODES}")
    given = parser.parse_args()
    try:
        layout = Layout.from_environment()
        place = layout.node(given.number)
        operator = api.operator(layout)
        if given.act == "join":
            if not place.config.exists():
                join(layout, place, operator)
            start(layout, Supervisor(layout), place)
        else:
            leave(layout, Supervisor(layout), place, operator)
        roster.publish(layout)
    except (Unusable, programs.Missing) as error:
        show.failed(f"{given.act} of node {given.number}", error)
        return 1
    return 0


def join(layout: Layout, place: NodePlace, operator: api.Api) -> None:
    """Make the node a member of the fleet and write its directory; it does not run yet. Raises Unusable."""
    token = operator.call("POST", "/nodes/tokens")["token"]
    key = make_key()
    answer = api.Api(layout).call(
        "POST",
        "/nodes/join",
        {
            "token": token,
            "name": place.name,
            "spool_host": HOST,
            "spool_port": place.port("spool"),
            "smtp_host": HOST,
            "smtp_port": place.port("smtp"),
            "scrape": {process: place.metrics_url(process) for process in NODE_PROCESSES},
            "csr": make_request(key, place.name).decode(),
        },
    )
    tls = place.directory / "tls"
    own_directory(place.directory)
    own_directory(tls)
    write_private(tls / "key.pem", key_pem(key))
    (tls / "cert.pem").write_text(answer["cert"])
    (tls / "ca.pem").write_text(answer["ca"])
    smtp = place.directory / "smtp"
    configs.load_authority(layout).write_pair(smtp, place.hostname, hosts=(place.hostname, "localhost", HOST))
    configs.write_node(layout, place, tuple(answer["etcd"]), str(answer["receiver"]))


def start(layout: Layout, supervisor: Supervisor, place: NodePlace) -> None:
    """Run the node's processes and wait until each is ready. Raises Unusable."""
    own_directory(place.socket("memcached").parent, user=programs.user_for("memcache"), mode=0o711)
    add_node(supervisor, place)
    for name, lacks in ready.node_checks(place).items():
        show.wait_for(layout, name, lacks)


def leave(layout: Layout, supervisor: Supervisor, place: NodePlace, operator: api.Api) -> None:
    """Take the node out: workers end their sessions, the spool empties, it stops, the fleet forgets it.

    Raises Unusable, with the node left drained but whole, when its spool does not empty.
    """
    began = time.monotonic()
    operator.call("POST", f"/nodes/{place.name}/drain", accept=(404,))
    if supervisor.runs():
        supervisor.stop(*(part.name for part in parts.node(place) if ".worker" in part.name))
    deadline = time.monotonic() + DRAIN_WITHIN_S
    while left := _unshipped(place):
        if time.monotonic() > deadline:
            raise Unusable(f"{place.name} still holds {left:.0f} records that no quarantine has: not removed")
        time.sleep(0.2)
    supervisor.remove_group(place.name)
    supervisor.update()
    operator.call("DELETE", f"/nodes/{place.name}", accept=(404,))
    shutil.rmtree(place.directory, ignore_errors=True)
    show.done(f"{place.name} drained and removed", began)


def _unshipped(place: NodePlace) -> float:
    """Records in the node's spool; 0 also when its spool does not answer, for then there is nothing to wait for."""
    try:
        text = httpx.get(place.metrics_url("spool"), timeout=ready.WITHIN_S, trust_env=False).text
    except httpx.HTTPError:
        return 0
    found = (line.split() for line in text.splitlines() if line.startswith("syncd_spool_records"))
    return sum(float(value) for _, value in found)


if __name__ == "__main__":
    sys.exit(main())
