"""The SMTP server: aiosmtpd's class, hooks and `smtp_*` methods, hardened.

Kept of aiosmtpd: `session`, `envelope`, the handler's hooks, the methods below. Changed: a wall that
answers 451 without detail and resets, addresses and parameters read as bytes (`mx.address`,
`mx.parameters`), DATA taken in chunks (`mx.wire`), no AUTH. The connection itself is `mx.stream`.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from monitoring import log
from monitoring.metrics import mx as metrics
from mx import headers, parameters, replies
from mx.address import BadPath, forward_path, reverse_path
from mx.front import Front
from mx.pace import Turn
from mx.replies import Reply
from mx.room import Arriving, NoRoom
from mx.session import Reception
from mx.stream import Bye, Closing, Stream
from mx.wire import Body

HOST_NAME_BYTES = 255
HEADER_BYTES = 512 * 1024
"""Bounds what reading and editing a header can cost the event loop; Postfix and sendmail take far less."""
DROP_FACTOR = 2
"""A message that passes its limit this many times over is not read to its end: the connection is closed."""

NOT_SMTP_VERBS = frozenset(b"GET POST PUT HEAD DELETE PATCH OPTIONS CONNECT TRACE PRI".split())

Method = Callable[[Any, str], Coroutine[Any, Any, None]]

_log = log.get(__name__)


class Server(Stream):
    """One SMTP session."""

    __slots__ = ()
    verbs: ClassVar[dict[bytes, Method]]
    """The `smtp_*` methods by verb, looked up once a class. No AUTH: an MX authenticates nobody."""

    async def _obey(self, line: bytes) -> None:
        self.session.heard(line)
        try:
            await self._command(line)
        except (asyncio.CancelledError, ConnectionError, Closing):
            raise
        except Exception as error:
            metrics.session_errors.inc()
            _log.exception("session_error", id=self.envelope.id, error=repr(error))
            amid_message = self._pace.turn is Turn.MESSAGE
            self._reset()
            self._say(replies.TRY_LATER)
            if amid_message:  # what follows is not commands: read as such, a sender could smuggle them in
                raise Closing from error

    async def _command(self, line: bytes) -> None:
        limits = self._front.smtp.limits
        self.session.commands += 1
        if self.session.commands > limits.commands + limits.recipients:
            self._say(replies.TOO_MANY_COMMANDS)
            raise Closing
        verb, _, argument = line.partition(b" ")
        method = self.verbs.get(verb.upper())
        if method is None:
            self._refuse_verb(verb.upper())
        else:
            await method(self, argument.strip().decode("utf-8", "surrogateescape"))

    def _refuse_verb(self, verb: bytes) -> None:
        """A verb that is none of ours; HTTP, and noise from somebody who never said HELO, end the session."""
        is_word = verb.isalnum() and verb.isascii()
        if verb in NOT_SMTP_VERBS or (not is_word and _is_noise(verb) and not self.session.host_name):
            self._say(replies.NOT_SMTP)
            raise Closing
        self._blame(replies.UNKNOWN_COMMAND if is_word else replies.SYNTAX)

    def _blame(self, reply: Reply) -> None:
        """Say what the client did wrong, and count it."""
        self.event_handler.error(self.session)
        if self.session.errors > self._front.smtp.limits.errors:
            self._say(replies.TOO_MANY_ERRORS)
            raise Closing
        self._say(reply)

    def _reset(self) -> None:
        self.event_handler.abandon(self.session, self.envelope)
        self._set_post_data_state()  # type: ignore[no-untyped-call]

    async def smtp_HELO(self, hostname: str) -> None:
        """HELO."""
        if await self._hello(hostname, extended=False):
            self._say(Reply(250, "", self.hostname))

    async def smtp_EHLO(self, hostname: str) -> None:
        """EHLO, and what we offer."""
        if await self._hello(hostname, extended=True):
            self._say_lines(self._front.offers(starttls=self._front.tls() is not None and not self.session.tls))

    async def _hello(self, hostname: str, *, extended: bool) -> bool:
        name = hostname.encode("utf-8", "surrogateescape")
        if not name or len(name) > HOST_NAME_BYTES or not hostname.isprintable() or " " in hostname:
            self._blame(replies.NEEDS_NAME)
            return False
        self._reset()
        self.session.extended_smtp = extended
        await self.event_handler.handle_HELO(self, self.session, self.envelope, hostname)
        return True

    async def smtp_STARTTLS(self, arg: str) -> None:
        """Go over to TLS with the loop's own implementation; RFC 3207."""
        context = self._front.tls()
        if arg:
            return self._blame(replies.NO_ARGUMENT)
        if self.session.tls:
            return self._blame(replies.TLS_ALREADY)
        if context is None:
            return self._blame(replies.TLS_UNAVAILABLE)
        self._reset()
        self._say(replies.START_TLS)
        await self._upgrade(context)
        return None

    async def smtp_MAIL(self, arg: str | None) -> None:
        """MAIL FROM."""
        path = self._path(arg or "", "FROM:", replies.MAIL_SYNTAX)
        if path is None:
            return None
        if self.envelope.is_open:
            return self._blame(replies.NESTED_MAIL)
        try:
            sender, rest = reverse_path(path)
            wanted = parameters.of_mail(
                rest, extended=self.session.extended_smtp, limit=self._front.smtp.max_message_bytes
            )
        except (BadPath, parameters.Refused) as error:
            return self._blame(Reply(error.code, error.enhanced, str(error)))
        if not path[: len(path) - len(rest)].isascii() and not wanted.smtputf8:
            return self._blame(replies.NEEDS_SMTPUTF8)
        self.envelope.smtp_utf8, self.envelope.eight_bit = wanted.smtputf8, wanted.eight_bit
        self.envelope.declared_size = wanted.size
        self.session.turn_page()
        hook = self.event_handler.handle_MAIL
        return await self.push(await hook(self, self.session, self.envelope, sender, rest.decode("latin-1").split()))

    async def smtp_RCPT(self, arg: str | None) -> None:
        """RCPT TO."""
        path = self._path(arg or "", "TO:", replies.RCPT_SYNTAX)
        if path is None:
            return None
        if not self.envelope.is_open:
            return self._blame(replies.MAIL_FIRST)
        try:
            mailbox, rest = forward_path(path)
        except BadPath as error:
            return self._blame(Reply(error.code, error.enhanced, str(error)))
        if rest.strip():
            return self._blame(replies.PARAMETER_UNKNOWN)  # NOTIFY, ORCPT: we do not offer DSN (RFC 3461 section 4)
        if not path.isascii() and not self.envelope.smtp_utf8:
            return self._blame(replies.NEEDS_SMTPUTF8)
        hook = self.event_handler.handle_RCPT
        return await self.push(await hook(self, self.session, self.envelope, mailbox, []))

    def _path(self, arg: str, keyword: str, syntax: Reply) -> bytes | None:
        """The bytes after FROM: or TO:, or None when the command cannot stand here."""
        if not self.session.host_name:
            self._blame(replies.HELO_FIRST)
        elif arg[: len(keyword)].upper() != keyword:
            self._blame(syntax)
        else:
            # A blank after the colon is not allowed (RFC 5321 section 3.3), and common.
            return arg[len(keyword) :].lstrip().encode("utf-8", "surrogateescape")
        return None

    async def smtp_DATA(self, arg: str) -> None:
        """DATA: take the message in chunks, whatever is in it, and answer once."""
        if arg:
            return self._blame(replies.NO_ARGUMENT)
        if not self.envelope.addressees:
            return self._blame(replies.RCPT_FIRST if self.envelope.is_open else replies.MAIL_FIRST)
        self._say(replies.START_MAIL)
        status = await self._message()
        self.session.commands = 0
        self._set_post_data_state()  # type: ignore[no-untyped-call]
        return await self.push(status)

    async def _message(self) -> str:
        """Read the message and hand it on; what is to be answered after its dot."""
        smtp = self._front.smtp
        body = Body(smtp.max_message_bytes, normalise=smtp.bare_newlines == "normalise")
        arriving = Arriving(self._front.room, body)
        self.envelope.let_go = arriving.close
        try:
            await self._read_whole(body, arriving)
            self._pace.begin(Turn.OURS, self.loop.time())
            if body.too_big:
                return self._unfit(replies.TOO_BIG, "size")
            return await self._take(body, await arriving.message())
        except NoRoom as error:
            _log.error("no_room", id=self.envelope.id, error=str(error))
            return self._unfit(replies.NO_ROOM, "no_room")
        finally:
            if not self.envelope.is_taken:  # else the message is in use until the accept path has ended
                arriving.close()

    async def _read_whole(self, body: Body, arriving: Arriving) -> None:
        """Read to the final dot, whatever comes; what no longer fits anywhere is dropped."""
        ended = False
        while not ended:
            ended = arriving.feed(await self._read())
            if body.size_bytes > DROP_FACTOR * self._front.smtp.max_message_bytes:
                self._unfit(replies.TOO_BIG, "size")
                self._say(replies.TOO_BIG)
                raise Closing
            if arriving.is_large and not ended:
                await arriving.to_disk()
        self._commands.feed(body.rest)

    async def _take(self, body: Body, message: bytes) -> str:
        if headers.split(message) > HEADER_BYTES:
            return self._unfit(replies.HEADER_TOO_BIG, "header_size")
        if body.has_bare_newline and self._front.smtp.bare_newlines == "refuse":
            return self._unfit(replies.BARE_NEWLINE, "bare_newline")
        self.envelope.raw = self.envelope.content = self.envelope.original_content = message
        return await self.event_handler.handle_DATA(self, self.session, self.envelope)

    def _unfit(self, reply: Reply, cause: str) -> str:
        return self.event_handler.unfit(self.session, self.envelope, reply, cause)

    async def smtp_RSET(self, arg: str) -> None:
        """RSET."""
        if arg:
            return self._blame(replies.NO_ARGUMENT)
        self._reset()
        return self._say(replies.OK)

    async def smtp_NOOP(self, arg: str) -> None:
        """NOOP, with an argument or without."""
        self._say(replies.OK)

    async def smtp_QUIT(self, arg: str) -> None:
        """QUIT; an argument is ignored (RFC 5321 section 4.1.1.10 forbids it, nobody needs the error)."""
        self._say(replies.BYE)
        raise Bye

    async def smtp_VRFY(self, arg: str) -> None:
        """VRFY tells nothing (RFC 5321 section 7.3)."""
        self._say(replies.VRFY)

    async def smtp_EXPN(self, arg: str) -> None:
        """EXPN is not offered."""
        self._blame(replies.NOT_OFFERED)

    async def smtp_HELP(self, arg: str) -> None:
        """HELP."""
        self._say(replies.HELP)


def factory(reception: Reception, front: Front) -> Callable[[], Server]:
    """What a listener calls for each connection."""
    loop = asyncio.get_running_loop()
    return lambda: Server(reception, front, loop)


def _methods(kind: type[Server]) -> dict[bytes, Method]:
    names = (name for name in dir(kind) if name.startswith("smtp_") and name != "smtp_AUTH")
    return {name.removeprefix("smtp_").encode(): getattr(kind, name) for name in names}


Server.verbs = _methods(Server)


def _is_noise(verb: bytes) -> bool:
    return any(byte < 0x20 or byte > 0x7E for byte in verb)
