"""Errors as problem documents (RFC 9457): the sentence, code and hint of the command line."""

from __future__ import annotations

from http import HTTPStatus

from metricshub_apikey.errors import ApiKeyError, KeystoreError

STATUS = {
    "key-not-found": 404,
    "key-exists": 409,
    "rotation-pending": 409,
    "not-rotated": 409,
    "overtaken": 409,
    "invalid-argument": 422,
    "expiry-in-past": 422,
    "policy-breach": 422,
    "entry-unreadable": 422,
    "not-confirmed": 500,
}
"""The status of what a caller can do something about; all else is the server's: 503."""


class Problem(Exception):  # noqa: N818 - the term of RFC 9457
    """
    An answer that is not what was asked for.

    Attributes:
        status: The HTTP status.
        code: A stable name for scripts; the command line's, where it has one.
        detail: What is wrong, in one sentence.
        hint: What to do next, where there is something useful to say.
        field: The member of the body that it is about.
        headers: Sent with it.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        hint: str | None = None,
        field: str | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.hint = hint
        self.field = field
        self.headers = headers

    @classmethod
    def of(cls, error: ApiKeyError, field: str | None = None) -> Problem:
        """Return the problem that *error* is to a client."""
        status = STATUS.get(error.code, 503)
        headers = ((b"retry-after", b"1"),) if error.code == "keystore-busy" else ()
        if isinstance(error, KeystoreError) and status == 500:
            status = 503
        return cls(status, error.code, error.message, hint=error.hint, field=field, headers=headers)

    def document(self) -> dict[str, object]:
        """Return what is sent as application/problem+json."""
        return {
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "hint": self.hint,
            "field": self.field,
        }
