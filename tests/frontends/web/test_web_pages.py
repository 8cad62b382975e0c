"""What mail programs are told to set themselves up with."""

from __future__ import annotations

import plistlib
from xml.etree import ElementTree as Xml

import pytest

from raftmail.frontends.web.autodiscover import OUTLOOK
from raftmail.mail.client_setup import ClientSetup
from tests.frontends.web.web_kit import Browser

CONFIG = "/mail/config-v1.1.xml?emailaddress="
ASK = (
    '<?xml version="1.0" encoding="utf-8"?><Autodiscover xmlns="http://schemas.microsoft.com/'
    'exchange/autodiscover/outlook/requestschema/2006"><Request><EMailAddress>{}</EMailAddress>'
    "<AcceptableResponseSchema>{}</AcceptableResponseSchema></Request></Autodiscover>"
)


def asked(address: str, schema: str = OUTLOOK) -> bytes:
    return ASK.format(address, schema).encode()


def local(tag: str) -> str:
    return tag.rpartition("}")[2]


def texts(root: Xml.Element, wanted: str) -> list[str | None]:
    return [element.text for element in root.iter() if local(element.tag) == wanted]


@pytest.mark.parametrize("path", [CONFIG, "/.well-known/autoconfig" + CONFIG])
def test_autoconfig_tells_every_server_the_preferred_first(path: str) -> None:
    status, headers, body = Browser().get(path + "Anna%40Example.ORG")
    assert status == 200 and headers["content-type"].startswith("application/xml")
    provider = Xml.fromstring(body)[0]
    assert provider.get("id") == "example.org" and provider.findtext("domain") == "example.org"
    assert provider.findtext("displayName") == "Example Mail"
    found = [
        (server.tag, server.get("type"), server.findtext("hostname"), server.findtext("port"))
        for server in provider
        if server.get("type")
    ]
    assert found == [
        ("incomingServer", "imap", "mail.example.org", "993"),
        ("incomingServer", "imap", "mail.example.org", "143"),
        ("incomingServer", "pop3", "mail.example.org", "995"),
        ("outgoingServer", "smtp", "smtp.example.org", "465"),
        ("outgoingServer", "smtp", "smtp.example.org", "587"),
    ]
    assert texts(provider, "socketType") == ["SSL", "STARTTLS", "SSL", "SSL", "STARTTLS"]
    assert set(texts(provider, "username")) == {"anna@example.org"}


def test_names_are_written_as_text_whatever_is_in_them() -> None:
    setup = ClientSetup.of("A & <B>", {"imaps": "m.example.org:993"})
    _, _, body = Browser(setup).get(CONFIG + "o'neil%26co@example.org")
    assert texts(Xml.fromstring(body), "displayName") == ["A & <B>"]
    assert texts(Xml.fromstring(body), "username") == ["o'neil&co@example.org"]


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("", 400),
        ("anna", 400),
        ("anna@", 400),
        ("a b@example.org", 400),
        ("a@b@example.org", 400),
        ("x" * 2000 + "@example.org", 400),
        ("anna@example.net", 404),
        ("anna@EXAMPLE.org", 200),
        ("anna@b%C3%BCcher.example", 200),
    ],
)
def test_an_address_of_no_domain_here_is_refused(address: str, status: int) -> None:
    domains = frozenset({"example.org", "xn--bcher-kva.example"})
    browser = Browser(domains=domains)
    quoted = address.replace(" ", "%20")
    assert browser.get(CONFIG + quoted)[0] == status
    assert browser.get("/apple.mobileconfig?email=" + quoted)[0] == status


def test_outlook_is_told_every_server_at_any_spelling_of_the_path() -> None:
    for path in ("/autodiscover/autodiscover.xml", "/Autodiscover/Autodiscover.xml"):
        status, _, body = Browser().post(path, asked("anna@example.org"))
        root = Xml.fromstring(body)
        assert status == 200 and root[0].tag == f"{{{OUTLOOK}}}Response"
        assert texts(root, "Type") == ["IMAP", "IMAP", "POP3", "SMTP", "SMTP"]
        assert texts(root, "Encryption") == ["SSL", "TLS", "SSL", "SSL", "TLS"]
        assert set(texts(root, "LoginName")) == {"anna@example.org"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "600"),
        (asked("nobody"), "600"),
        (b"<EMailAddress>a@example.org" + b"</EMailAddres>" * 1000, "600"),
        (asked("anna@example.org", "http://schemas.microsoft.com/mobilesync/2006"), "601"),
        (b'<!DOCTYPE a [<!ENTITY b "bbbb">]><EMailAddress>&b;@x.org</EMailAddress>', "600"),
    ],
)
def test_outlook_hears_an_error_in_its_own_form(body: bytes, code: str) -> None:
    status, _, answer = Browser().post("/autodiscover/autodiscover.xml", body)
    assert status == 200 and texts(Xml.fromstring(answer), "ErrorCode") == [code]


def test_an_apple_profile_has_both_servers_and_no_password() -> None:
    status, headers, body = Browser().get("/apple.mobileconfig?email=anna@example.org")
    assert status == 200 and headers["content-type"] == "application/x-apple-aspen-config"
    profile = plistlib.loads(body)
    (account,) = profile["PayloadContent"]
    assert account["EmailAccountType"] == "EmailTypeIMAP"
    assert account["IncomingMailServerHostName"] == "mail.example.org"
    assert account["IncomingMailServerPortNumber"] == 993 and account["IncomingMailServerUseSSL"]
    assert account["OutgoingMailServerPortNumber"] == 465
    assert not [key for key in account if key.endswith("Password") and account[key] is not True]
    again = plistlib.loads(Browser().get("/apple.mobileconfig?email=ANNA@example.org")[2])
    assert again["PayloadUUID"] == profile["PayloadUUID"] != account["PayloadUUID"]


def test_without_a_server_for_sending_there_is_no_profile_and_the_reason_is_told() -> None:
    setup = ClientSetup.of("", {"imaps": "mail.example.org:993"})
    status, _, body = Browser(setup).get("/apple.mobileconfig?email=anna@example.org")
    assert status == 404 and b"where mail is handed in" in body
    assert Browser(setup).get(CONFIG + "anna@example.org")[0] == 200


def test_a_site_that_tells_nothing_has_no_pages() -> None:
    nothing = ClientSetup.of("", {})
    assert Browser(nothing).get(CONFIG + "anna@example.org")[0] == 404
