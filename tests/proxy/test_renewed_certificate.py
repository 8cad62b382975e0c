"""A certificate that was renewed is shown to who comes from then on."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from raftmail.proxy.config import ProxyConfig, ProxyConfigError, ProxyListen, ProxyTls
from raftmail.proxy.mail_proxy import MailProxy, ProxiedCluster
from raftmail.proxy.nodes import ProxiedNode
from tests.net.certificates import Certificates
from tests.node.cluster import free_ports


async def _shown(port: int, ca: Path) -> bytes | None:
    """The certificate that a new connection gets."""
    context = ssl.create_default_context(cafile=str(ca))
    context.check_hostname = False
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    assert shown is None or isinstance(shown, bytes)
    return shown


def test_a_renewed_certificate_is_shown_and_one_that_cannot_be_read_is_not(tmp_path: Path) -> None:
    made = Certificates(tmp_path / "tls", "c" * 32)
    first, second = made.files("n1"), made.files("n2")
    certificate, key = tmp_path / "shown.pem", tmp_path / "shown.key"
    made_of = (first, second)
    old, new = ((Path(f.certificate).read_bytes(), Path(f.key).read_bytes()) for f in made_of)
    certificate.write_bytes(old[0])
    key.write_bytes(old[1])
    (port,) = free_ports(1)
    config = ProxyConfig(
        tmp_path / "proxy.toml",
        listen=ProxyListen(imaps=f"127.0.0.1:{port}"),
        tls=ProxyTls(certificate.name, key.name),
    )
    node = ProxiedNode("n1", {"imaps": "127.0.0.1:1"})

    async def main() -> None:
        proxy = MailProxy(config, ProxiedCluster([node], ["127.0.0.1:1"], made.ca, "a" * 64))
        await proxy.start()
        try:
            before = await _shown(port, made.ca)
            certificate.write_bytes(b"half a file")
            with pytest.raises(ProxyConfigError):
                proxy.renew_certificate()
            assert await _shown(port, made.ca) == before
            certificate.write_bytes(new[0])
            key.write_bytes(new[1])
            proxy.renew_certificate()
            assert await _shown(port, made.ca) not in (before, None)
        finally:
            await proxy.stop()

    asyncio.run(main())
