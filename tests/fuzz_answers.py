"""Check responses against an OpenAPI document."""

from __future__ import annotations

import json
from typing import NoReturn

from tests.attacks.client import Answer
from tests.fuzz_requests import expanded
from tests.fuzz_values import Json


class DocumentedAnswers:
    """Response schemas of the POST operations of an OpenAPI document, by path and status."""

    def __init__(self, document: Json) -> None:
        from jsonschema import Draft202012Validator  # takes three seconds, and most tests do not need it

        schemas = document["components"]["schemas"]
        self.validators = {
            path: {
                int(status): Draft202012Validator(expanded(response["content"]["application/json"]["schema"], schemas))
                for status, response in methods["post"]["responses"].items()
            }
            for path, methods in document["paths"].items()
            if "post" in methods
        }

        # Answers in another form, which a request may ask for.
        self.media_types = {
            (path, int(status)): set(response["content"])
            for path, methods in document["paths"].items()
            if "post" in methods
            for status, response in methods["post"]["responses"].items()
        }

    def fault_of(self, path: str, answer: Answer) -> str | None:
        """Return how a response violates the document, or None if it does not or the document lacks the path."""
        if path not in self.validators:
            return None
        validator = self.validators[path].get(answer.status)
        if validator is None:
            return f"status {answer.status}, which is not documented"
        if answer.media_type != "application/json":
            if answer.media_type in self.media_types[path, answer.status]:
                return None
            return f"status {answer.status} of media type {answer.media_type!r}"
        try:
            content = json.loads(answer.body, parse_constant=reject_constant)
        except ValueError as error:
            return f"status {answer.status} with a body that is not JSON: {error}"
        violation = next(validator.iter_errors(content), None)
        if violation is None:
            return None
        return f"status {answer.status}, not as documented at {violation.json_path}: {violation.message[:500]}"


def reject_constant(constant: str) -> NoReturn:
    """Raise ValueError for NaN and infinities, which Python reads but JSON does not have."""
    raise ValueError(f"{constant} is not JSON")
