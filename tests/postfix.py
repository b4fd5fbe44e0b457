"""A private Postfix on loopback as a next hop: real smtpd, real queue, maildirs; everything below one directory.

Postfix's master has to be started by root; a machine without it, or another user, skips by name.
"""

import os
import pwd
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import Service, free_port

DAEMONS = Path("/usr/lib/postfix/sbin")
REFUSED = "nobody"
"""Local part that its recipient table lacks."""
LOCAL_PARTS = ("a", "b", "jürg", '"q p"')

_MAIN = """
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
daemon_directory = {daemons}
command_directory = /usr/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = postfix.test
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
virtual_mailbox_domains = x.test
virtual_mailbox_base = {directory}/mail
virtual_mailbox_maps = inline:{{ {mailboxes} }}
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
message_size_limit = 3000000
mailbox_size_limit = 0
virtual_mailbox_limit = 0
smtpd_recipient_restrictions = reject_unauth_destination
smtpd_peername_lookup = no
maillog_file = {directory}/logs/postfix
maillog_file_prefixes = {directory}
smtputf8_enable = yes
smtpd_tls_security_level = may
smtpd_tls_cert_file = {certificate}
smtpd_tls_key_file = {key}
"""

_MASTER = """
127.0.0.1:{port} inet n - n - - smtpd
cleanup  unix n - n - 0 cleanup
qmgr     unix n - n 300 1 qmgr
rewrite  unix - - n - - trivial-rewrite
bounce   unix - - n - 0 bounce
defer    unix - - n - 0 bounce
error    unix - - n - - error
discard  unix - - n - - discard
virtual  unix - n n - - virtual
tlsmgr   unix - - n 1000? 1 tlsmgr
anvil    unix - - n - 1 anvil
proxymap unix - - n - - proxymap
postlog  unix-dgram n - n - 1 postlogd
"""


class Postfix(Service):
    """The running server; `mails` are what its virtual delivery agent wrote."""

    name = "postfix"

    def __init__(self, directory: Path, certificate: Path, key: Path) -> None:
        super().__init__(directory)
        self.port = free_port()
        owner = pwd.getpwnam("postfix")
        for name in ("queue", "data", "mail", "logs", "conf"):
            (directory / name).mkdir()
        for name in ("data", "mail"):
            os.chown(directory / name, owner.pw_uid, owner.pw_gid)
        mailboxes = ", ".join(f"{{ {local}@x.test = all/ }}" for local in LOCAL_PARTS)
        (directory / "conf" / "main.cf").write_text(
            _MAIN.format(
                directory=directory,
                daemons=DAEMONS,
                mailboxes=mailboxes,
                uid=owner.pw_uid,
                gid=owner.pw_gid,
                certificate=certificate,
                key=key,
            )
        )
        (directory / "conf" / "master.cf").write_text(_MASTER.format(port=self.port))

    def command(self) -> list[str]:
        return [
            "/bin/sh",
            "-c",
            f"/usr/sbin/postfix -c {self.directory}/conf check && exec {DAEMONS}/master -c {self.directory}/conf -d",
        ]

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as probe:
                return probe.recv(100).startswith(b"220 ")
        except OSError:
            return False

    @property
    def mails(self) -> list[bytes]:
        """Every mail delivered so far, with LF line ends, behind Postfix's own header fields."""
        return [path.read_bytes() for path in (self.directory / "mail" / "all" / "new").glob("*")]


def running(directory: Path, certificate: Path, key: Path) -> Iterator[Postfix]:
    """A Postfix that ends with the test; skips by name."""
    if shutil.which("postfix", path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None or not DAEMONS.exists():
        pytest.skip("postfix is not installed: apt-get install postfix (it need not run)")
    if os.geteuid() != 0:
        pytest.skip("postfix's master has to be started by root")
    server = Postfix(directory, certificate, key)
    try:
        server.start()
        yield server
    finally:
        server.stop()
