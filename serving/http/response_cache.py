"""The response cache: a body that was answered before gets that answer again."""

from __future__ import annotations

from hashlib import blake2b

from serving.caching.memory import MemoryCache
from serving.http.body import START_BYTES
from serving.http.sender import ResponseSender, StoredAnswer
from serving.telemetry import metrics


class ResponseCache:
    """Answers by path, version of the model, content type and body."""

    def __init__(self, answers: MemoryCache[StoredAnswer]) -> None:
        self.answers = answers
        self.hits = metrics.cache_lookups.labels("response", "memory", "hit")
        self.misses = metrics.cache_lookups.labels("response", "memory", "miss")

    async def serve(self, path: str, content_type: bytes, body: bytes, sender: ResponseSender) -> bool:
        """Send the answer stored for the same body and return True; else return False, and have the answer stored.

        Nothing is stored for bodies over START_BYTES, or where the endpoint or the request does not allow it.
        """
        # Hashing a larger one would hold up the requests behind it.
        if not sender.cacheable or sender.looked_up or len(body) > START_BYTES:
            return False
        sender.looked_up = True
        # The content type has a form's boundary and a text's charset, by which the body is read.
        digest = blake2b(b"\0".join((path.encode(), sender.version.encode(), content_type, b"")), digest_size=16)
        digest.update(body)
        key = digest.digest()
        if not sender.request.no_cache:
            known = self.answers.get(key)
            if known is not None:
                self.hits.inc()
                await sender.send_stored(*known)
                return True
            self.misses.inc()
        if not sender.request.no_store:
            sender.keep = (self.answers, key)
        return False
