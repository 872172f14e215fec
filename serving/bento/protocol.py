"""How connections are served: uvicorn's protocol, which BentoML gives no setting for."""

from __future__ import annotations

from typing import Any

import httptools
from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Of an offer to go on by another protocol.
OFFER = (b"upgrade", b"http2-settings")


class RequestParser:
    """httptools' parser, which goes on by HTTP/1.1 where a client offers another protocol.

    httptools passes over the body of a request with `Upgrade`, as Java's HttpClient and `curl --http2` send it to
    addresses with http. That offer may be declined (RFC 9110, section 7.8); the head is then read without it.
    """

    def __init__(self, protocol: HttpProtocol) -> None:
        self.protocol = protocol
        self.start()

    def start(self) -> None:
        """Begin with a request."""
        self.parser = httptools.HttpRequestParser(self.protocol)
        # As uvicorn does: what comes after a request that ends the connection is passed over.
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def feed_data(self, data: bytes) -> None:
        """Read what a client sent."""
        while True:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                if not self.offers_protocol():
                    raise
                head = self.protocol.head_without_offer()
                self.start()
                data = head + data[upgrade.args[0] :]

    def offers_protocol(self) -> bool:
        """Return whether the request could go on by another protocol; CONNECT is no offer."""
        return self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"

    def __getattr__(self, name: str) -> Any:
        return getattr(self.parser, name)


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol for HTTP/1.1, which keeps connections for `keep_alive_seconds` and declines upgrades."""

    keep_alive_seconds = 5

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.parser: Any = RequestParser(self)
        self.timeout_keep_alive = self.keep_alive_seconds

    def on_headers_complete(self) -> None:
        """Begin to answer, unless the head is to be read again without an offer of another protocol."""
        if not self.parser.offers_protocol():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Give the answer the end of its request, unless that is to be read again."""
        if not self.parser.offers_protocol():
            super().on_message_complete()

    def head_without_offer(self) -> bytes:
        """Return the head of the request that has just been read, without the offer of another protocol."""
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        for name, value in self.headers:
            if name == b"connection":
                tokens = [token.strip() for token in value.split(b",")]
                value = b", ".join(token for token in tokens if token.lower() not in OFFER)
            if name not in OFFER and (value or name != b"connection"):
                lines.append(name + b": " + value)
        return b"\r\n".join([*lines, b"", b""])


def install(keep_alive_seconds: int) -> None:
    """Have the workers that start from now on serve connections by HttpProtocol."""
    HttpProtocol.keep_alive_seconds = keep_alive_seconds
    for name in ("auto", "httptools"):
        HTTP_PROTOCOLS[name] = f"{__name__}:{HttpProtocol.__name__}"
