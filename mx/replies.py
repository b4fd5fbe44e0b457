"""Every reply we speak, by name. One printable line each, below the 512 octets of RFC 5321 section 4.5.3.1.5.

A peer's or next hop's bytes pass `clean` before they are spoken; nothing is echoed raw.

The peer gets generic text and an id; reasons are for the customer (`Judgement`) and the log.
"""

from dataclasses import dataclass

from syncd.nexthop import clean


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply; `enhanced` is "" where RFC 2034 has none (greeting, EHLO, 354)."""

    code: int
    enhanced: str
    text: str

    @property
    def line(self) -> str:
        """As spoken, without CRLF."""
        return f"{self.code} {self.enhanced} {self.text}" if self.enhanced else f"{self.code} {self.text}"

    @property
    def wire(self) -> bytes:
        """As it leaves, CRLF included."""
        return f"{self.line}\r\n".encode("ascii", "replace")

    @property
    def is_ok(self) -> bool:
        """2xx or 3xx."""
        return self.code < 400

    @property
    def is_temporary(self) -> bool:
        """4xx."""
        return 400 <= self.code < 500


def refused(code: int, enhanced: str, text: str, panel_url: str, transaction: str) -> Reply:
    """A refusal that keeps a copy: the link shows the sender how to ask, nothing of the mail."""
    return Reply(code, enhanced, f"{clean(text)} {panel_url.rstrip('/')}/r/{transaction}")


def deferred(code: int, enhanced: str, text: str) -> Reply:
    """A temporary refusal by a filter or the next hop."""
    return Reply(code, enhanced, clean(text))


def taken(transaction: str) -> Reply:
    """The whole mail is ours or the next hop's."""
    return Reply(250, "2.0.0", f"Ok: {transaction}")


SENDER_OK = Reply(250, "2.1.0", "Sender ok")
RECIPIENT_OK = Reply(250, "2.1.5", "Recipient ok")
OK = Reply(250, "2.0.0", "Ok")
BYE = Reply(221, "2.0.0", "Bye")
START_MAIL = Reply(354, "", "End data with <CR><LF>.<CR><LF>")
START_TLS = Reply(220, "2.0.0", "Ready to start TLS")
VRFY = Reply(252, "2.5.0", "Cannot verify; send mail and see")
HELP = Reply(214, "2.0.0", "See RFC 5321")

TRY_LATER = Reply(451, "4.3.0", "Try again later")
"""Whatever went wrong on our side; no detail."""
NOT_KNOWN = Reply(451, "4.3.2", "Settings are being fetched, try again later")
TOO_LATE = Reply(451, "4.4.7", "That took too long, try again later")
NOT_SECURED = Reply(451, "4.3.0", "Cannot store the message safely now, try again later")

RELAYING_DENIED = Reply(550, "5.7.1", "Relaying denied")
UNKNOWN_USER = Reply(550, "5.1.1", "No such recipient here")
BARE_NEWLINE = Reply(550, "5.6.11", "Bare CR or LF in the message; lines end with CRLF")
TOO_BIG = Reply(552, "5.3.4", "Message too big")
NO_ROOM = Reply(452, "4.3.1", "No room for a message of this size now, try again later")
HEADER_TOO_BIG = Reply(552, "5.3.4", "Message header too big")
TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "Too many recipients")

SYNTAX = Reply(500, "5.5.2", "Syntax error")
UNKNOWN_COMMAND = Reply(500, "5.5.1", "Command not recognised")
NOT_OFFERED = Reply(502, "5.5.1", "Not offered here")
NO_ARGUMENT = Reply(501, "5.5.4", "No argument allowed")
NEEDS_NAME = Reply(501, "5.5.4", "A host name is needed")
MAIL_SYNTAX = Reply(501, "5.5.4", "Syntax: MAIL FROM:<address> [parameters]")
RCPT_SYNTAX = Reply(501, "5.5.4", "Syntax: RCPT TO:<address>")
PARAMETER_UNKNOWN = Reply(555, "5.5.4", "Parameter not recognised")
PARAMETER_BAD = Reply(501, "5.5.4", "Bad parameter value")
NEEDS_SMTPUTF8 = Reply(553, "5.6.7", "An internationalised address needs SMTPUTF8")
HELO_FIRST = Reply(503, "5.5.1", "Say HELO or EHLO first")
MAIL_FIRST = Reply(503, "5.5.1", "MAIL first")
NESTED_MAIL = Reply(503, "5.5.1", "A transaction is open; RSET first")
RCPT_FIRST = Reply(503, "5.5.1", "No valid recipient yet")
TLS_ALREADY = Reply(503, "5.5.1", "TLS is already in use")
TLS_UNAVAILABLE = Reply(454, "4.7.0", "TLS not available")
NOT_SMTP = Reply(554, "5.5.1", "This is an SMTP server")

TOO_MANY_ERRORS = Reply(421, "4.7.0", "Too many errors, closing")
TOO_MANY_COMMANDS = Reply(421, "4.7.0", "Too many commands without a mail, closing")
IDLE = Reply(421, "4.4.2", "Idle for too long, closing")
TOO_SLOW = Reply(421, "4.4.2", "The message comes too slowly, closing")
SESSION_TOO_LONG = Reply(421, "4.4.2", "The session takes too long, closing")
SHUTTING_DOWN = Reply(421, "4.3.2", "Shutting down, try again later")
OUT_OF_ROTATION = Reply(421, "4.3.2", "This server is out of rotation, use another one or try again later")
TOO_MANY_CONNECTIONS = Reply(421, "4.7.0", "Too many connections from your network, try again later")
TOO_BUSY = Reply(421, "4.3.2", "Too many connections, try again later")
TOO_FAST = Reply(421, "4.7.0", "Too many new connections from your network, try again later")


def banned(network: str, seconds: int) -> Reply:
    """A ban names itself, its network and its end."""
    return Reply(421, "4.7.0", f"Too many errors from {network}, banned for {seconds} s")
