"""From looks to decisions: judges every recipient of a transaction by its own domain's settings."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from monitoring import log
from monitoring.metrics import at_zero
from monitoring.metrics import mx as metrics
from mx import trace
from mx.checks import mime_plain
from mx.filter import Action, Filter, Message, Seen, Stage
from mx.filters import ORDER
from mx.judge import Decision, Judged, decide, judge, unsure
from mx.looks import Looks, key_of
from mx.services import KnownPolicy, Services
from mx.transaction import Addressee

_log = log.get(__name__)
_verdicts = lru_cache(maxsize=None)(metrics.verdicts.labels)  # a child costs 3 µs to find, and there are few

_NAMES = tuple(filter_.name for filter_ in ORDER)
at_zero(metrics.verdicts, _NAMES, ("on", "shadow"), Action)
at_zero(metrics.filter_unsure, _NAMES)
at_zero(metrics.filter_seconds, _NAMES)


def shown_to(addressee: Addressee, seen: Seen) -> Seen:
    """What the looks of this recipient's domain see."""
    return replace(seen, recipient=addressee.address, domain=addressee.policy.domain)


def begin(looks: Looks, addressee: Addressee, seen: Seen) -> None:
    """Start the looks that need no more than has been seen at RCPT, while the dialogue goes on."""
    looks.start(addressee.policy, shown_to(addressee, seen), upto=Stage.RCPT)


async def decide_early(services: Services, looks: Looks, addressee: Addressee, seen: Seen) -> Decision | None:
    """A refusal or deferral to speak at RCPT, without a copy; None when there is none.

    Spoken early are filters that declare it, and those that the domain names in `refusal.early`.
    """
    policy = addressee.policy
    names = {filter_.name for filter_ in services.filters if filter_.early} | set(policy.sections["refusal"].early)
    at_rcpt = [filter_ for filter_ in services.filters if filter_.stage <= Stage.RCPT]
    speaking = [filter_ for filter_ in at_rcpt if filter_.name in names and policy.sections[filter_.name].mode == "on"]
    if not speaking:
        return None
    # An allow entry has to be heard before a filter that it would silence.
    asked = at_rcpt if any(filter_.bypassable for filter_ in speaking) else speaking
    judged = await _judge_all(asked, looks, policy, shown_to(addressee, seen))
    heard = [one for one in judged if one.filter in speaking or one.verdict.action is Action.ALLOW]
    decision = decide(heard, policy.sections["scoring"], local_part=addressee.mailbox.local_part)
    return decision if decision.action in (Action.REFUSE, Action.DEFER) and decision.by != "score" else None


async def decide_all(services: Services, looks: Looks, addressees: Sequence[Addressee], seen: Seen) -> None:
    """Set every recipient's decision; `seen` holds the message. All looks run at once."""
    shown = [shown_to(addressee, seen) for addressee in addressees]
    for addressee, what in zip(addressees, shown, strict=True):
        looks.start(addressee.policy, what, upto=Stage.MESSAGE)
    for addressee, what in zip(addressees, shown, strict=True):
        judged = await _judge_all(services.filters, looks, addressee.policy, what)
        for one in judged:
            _verdicts(one.filter.name, one.mode, one.verdict.action.value).inc()
        addressee.decision = decide(
            judged, addressee.policy.sections["scoring"], local_part=addressee.mailbox.local_part
        )


def checks(addressees: Sequence[Addressee]) -> tuple[str, ...]:
    """Results for our Authentication-Results field, from the evidence of the verdicts; () when nothing was checked.

    What SPF says depends on the session alone, so what one domain had looked at is true for all.
    """
    judgements = (one for each in addressees if each.decision for one in each.decision.judgements)
    found = next((one.evidence for one in judgements if one.filter == "spf" and "result" in one.evidence), None)
    if found is None:
        return ()
    domain = found["domain"]
    return (trace.spf_result(found["result"], domain if found["identity"] == "mailfrom" else "", domain),)


async def parsed(services: Services, addressees: Sequence[Addressee], raw: bytes) -> Message | None:
    """The message parsed for the filters; None when no recipient has a filter on that reads messages."""
    readers = [one.name for one in services.filters if one.stage is Stage.MESSAGE and not one.raw_only]
    if not any(one.policy.sections[name].mode != "off" for one in addressees for name in readers):
        return None
    try:
        return mime_plain.read(raw) or await services.parser.parse(raw)
    except Exception as error:  # noqa: BLE001 - a wall: a parser that cannot work leaves the message unchecked
        _log.error("parser_failed", error=repr(error))
        return Message((), (), len(raw), unchecked="the parser failed")


async def _judge_all(filters: Sequence[Filter], looks: Looks, policy: KnownPolicy, seen: Seen) -> list[Judged]:
    judged = []
    for filter_ in filters:
        if policy.sections[filter_.name].mode == "off":
            continue
        key = key_of(filter_, policy, seen)
        if key not in looks.judged:
            looks.judged[key] = await _judge(filter_, looks, policy, seen)
        judged.append(looks.judged[key])
    return judged


async def _judge(filter_: Filter, looks: Looks, policy: KnownPolicy, seen: Seen) -> Judged:
    settings = policy.sections[filter_.name]
    facts = await looks.facts(filter_, policy, seen)
    verdict = unsure(f"The look failed: {facts.failed}") if facts.failed else judge(filter_, settings, facts.value)
    if verdict.action is Action.UNSURE and not facts.failed:
        metrics.filter_unsure.labels(filter_.name).inc()
    return Judged(filter_, settings.mode, verdict, facts.ms)
