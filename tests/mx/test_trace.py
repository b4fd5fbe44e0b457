"""The Received and Authentication-Results fields."""

from dataclasses import replace

import pytest

from mx.trace import Passage, authentication_results, protocol, received, spf_result

PASSAGE = Passage("01ID", "mx1.test", "192.0.2.1", "client.test", 1764000000.0, esmtp=True, smtputf8=False, tls="")
TLS = "TLSv1.3 with cipher TLS_AES_256_GCM_SHA384"


@pytest.mark.parametrize(
    ("esmtp", "tls", "smtputf8", "keyword"),
    [
        (False, "", False, "SMTP"),
        (True, "", False, "ESMTP"),
        (True, TLS, False, "ESMTPS"),
        (True, "", True, "UTF8SMTP"),
        (True, TLS, True, "UTF8SMTPS"),
    ],
)
def test_with_keyword(esmtp: bool, tls: str, smtputf8: bool, keyword: str) -> None:
    assert protocol(replace(PASSAGE, esmtp=esmtp, tls=tls, smtputf8=smtputf8)) == keyword


def test_received() -> None:
    assert received(replace(PASSAGE, tls=TLS), "ann@x.test") == (
        b"Received: from client.test ([192.0.2.1])\r\n"
        b"\tby mx1.test (mxfleet) with ESMTPS id 01ID\r\n"
        b"\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384)\r\n"
        b"\tfor <ann@x.test>;\r\n"
        b"\tMon, 24 Nov 2025 16:00:00 -0000\r\n"
    )


def test_received_for_several_names_nobody() -> None:
    assert b"for <" not in received(PASSAGE)


def test_an_ipv6_client() -> None:
    assert b"([IPv6:2001:db8::1])" in received(replace(PASSAGE, client_ip="2001:db8::1"))


@pytest.mark.parametrize("helo", ["a\r\nX: y", "a b", "(", "", "x" * 1000, "\ud8ff", "é"])
def test_a_hostile_name_cannot_leave_its_place(helo: str) -> None:
    field = received(replace(PASSAGE, helo=helo))
    assert field.count(b"\r\n") == 3
    assert field.startswith(b"Received: from ")
    assert all(len(line) < 998 for line in field.split(b"\r\n"))


def test_authentication_results() -> None:
    assert authentication_results("mx1.test", ()) == b""
    results = (spf_result("pass", "x.test", "h.test"), spf_result("none", "", "h.test"))
    assert authentication_results("mx1.test", results) == (
        b"Authentication-Results: mx1.test;\r\n\tspf=pass smtp.mailfrom=x.test;\r\n\tspf=none smtp.helo=h.test\r\n"
    )
