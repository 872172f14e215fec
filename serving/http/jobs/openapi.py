"""The routes of background jobs in the OpenAPI document, and in what BentoML's clients ask for."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from serving.jobs.job import State
from serving.jobs.results import FORMATS, JSON

Document = dict[str, Any]

TEXT: Document = {"type": "string"}
TIME: Document = {"type": ["string", "null"], "format": "date-time"}
COUNT: Document = {"type": ["integer", "null"], "minimum": 0}
STATE: Document = {"type": "string", "enum": list(State)}
SUBMITTED = "TaskSubmitted"
TASK = "Task"
SCHEMAS: Document = {
    SUBMITTED: {
        "type": "object",
        "required": ["task_id", "status"],
        "properties": {"task_id": TEXT, "status": STATE},
    },
    TASK: {
        "type": "object",
        "required": ["task_id", "status", "created_at", "executed_at", "rows", "rows_done"],
        "properties": {
            "task_id": TEXT,
            "status": STATE,
            "created_at": TIME,
            "executed_at": TIME,
            "finished_at": TIME,
            "model_version": TEXT,
            "rows": {**COUNT, "description": "rows of the file; null until it has been read"},
            "rows_done": COUNT,
            "error": {**TEXT, "description": "of a failed job"},
            "detail": {"type": "array", "items": {"type": "object"}},
        },
    },
}
TASK_ID: Document = {
    "name": "task_id",
    "in": "query",
    "required": True,
    "description": "the id that `submit` gave",
    "schema": TEXT,
}
KEY: Document = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "the same key again is the same job",
    "schema": TEXT,
}
FORMAT: Document = {
    "name": "format",
    "in": "query",
    "description": "instead of Accept",
    "schema": {"type": "string", "enum": list(FORMATS)},
}
LIMIT: Document = {
    "name": "limit",
    "in": "query",
    "description": "most jobs that are listed",
    "schema": {"type": "integer", "minimum": 1, "maximum": 100},
}
ERRORS = {
    "403": "Without API keys there is no list.",
    "404": "There is no such task.",
    "406": "The result has no such format.",
    "409": "The task has ended already.",
    "500": "The task failed, for a fault of the server.",
}


def job_paths(names: Iterable[str], paths: Document, errors: Document) -> Document:
    """Return the paths of the models' jobs; `paths` has those of `uploadfile`, `errors` are responses by status."""
    content = errors["400"]["content"]
    errors = {**errors, **{status: {"description": text, "content": content} for status, text in ERRORS.items()}}

    def some(*statuses: str) -> Document:
        return {status: errors[status] for status in ("401", "429", "503", *statuses)}

    found: Document = {}
    for name in names:
        upload = paths[f"/{name}/uploadfile"]["post"]
        submit = copy.deepcopy(upload)
        submit |= {"summary": "Submit a file as a background job.", "parameters": [KEY]}
        submit.pop("operationId", None)
        submit["responses"] = {"202": answer(SUBMITTED, "The job has been submitted."), **upload["responses"]}
        del submit["responses"]["200"]
        result = {**upload["responses"]["200"]}
        result["content"] = {
            **result["content"],
            **{kind: {"schema": TEXT} for kind in FORMATS.values() if kind != JSON},
        }
        listed = {"type": "object", "properties": {"tasks": {"type": "array", "items": reference(TASK)}}}
        operations: dict[tuple[str, str], Document] = {
            ("submit", "post"): submit,
            ("status", "get"): {
                "summary": "State, times and progress of a job.",
                "parameters": [TASK_ID],
                "responses": {"200": answer(TASK), **some("400", "404")},
            },
            ("get", "get"): {
                "summary": "The result of a job.",
                "parameters": [TASK_ID, FORMAT],
                "responses": {"200": result, **some("400", "404", "406", "422", "500")},
            },
            ("cancel", "put"): {
                "summary": "Cancel a job.",
                "parameters": [TASK_ID],
                "responses": {"200": answer(TASK), **some("400", "404", "409")},
            },
            ("retry", "post"): {
                "summary": "Submit the file of a job that has ended again.",
                "parameters": [TASK_ID],
                "responses": {"202": answer(SUBMITTED), **some("400", "404")},
            },
            ("tasks", "get"): {
                "summary": "The newest jobs of an API key.",
                "parameters": [LIMIT],
                "responses": {
                    "200": {"description": "JSON", "content": {JSON: {"schema": listed}}},
                    **some("403", "422"),
                },
            },
            ("tasks", "delete"): {
                "summary": "Cancel a job where it goes on, and forget it with its files.",
                "parameters": [TASK_ID],
                "responses": {"200": answer(SUBMITTED, required=False), **some("400", "404")},
            },
        }
        for (action, method), operation in operations.items():
            found.setdefault(f"/{name}/score/{action}", {})[method] = {"tags": [name], **operation}
    return found


def reference(schema: str) -> Document:
    """Return a reference to one of the schemas."""
    return {"$ref": f"#/components/schemas/{schema}"}


def answer(schema: str, description: str = "JSON object", *, required: bool = True) -> Document:
    """Return a response with an object of one of the schemas; without all that it requires where not `required`."""
    content = reference(schema) if required else {"type": "object", "properties": SCHEMAS[schema]["properties"]}
    return {"description": description, "content": {JSON: {"schema": content}}}


def with_tasks(schema: Document, names: Iterable[str]) -> Document:
    """Return BentoML's schema of the service with a task `<model>_score` for each model, made from its uploadfile."""
    found = copy.deepcopy(schema)
    uploads = {route["name"]: route for route in found["routes"]}
    for name in names:
        task = {"name": f"{name}_score", "route": f"/{name}/score", "is_task": True}
        found["routes"].append({**copy.deepcopy(uploads[f"{name}_uploadfile"]), **task})
    return found
