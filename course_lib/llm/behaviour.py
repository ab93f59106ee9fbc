"""How a server misbehaves when a lesson asks it to: slow, failing, interrupted, careless."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict


class BehaviourOptions(TypedDict, total=False):
    """The keyword arguments of ``openai_client``; see ``Behaviour`` for their meaning."""

    latency_ms: float
    token_delay_ms: float
    fail_first: int
    status: int
    retry_after_s: float
    retry_after_ms: float
    break_stream_after: int
    drop_embeddings: int
    reverse_embeddings: bool
    say: str
    finish: str


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """What is done to every HTTP request of one client, the SDK's own retries included.

    latency_ms:         milliseconds before the answer to each request begins
    token_delay_ms:     milliseconds before each streamed token
    fail_first:         so many requests fail, the later ones succeed; with ``status`` alone all fail
    status:             HTTP status of those failures, 400 to 599; 429 unless told
    retry_after_s:      seconds in their ``Retry-After`` header; the SDK waits that long, up to 120 s
    retry_after_ms:     milliseconds in their ``retry-after-ms`` header, which the SDK prefers
    break_stream_after: the connection drops after so many streamed tokens
    drop_embeddings:    so many vectors are missing at the end of an embeddings answer
    reverse_embeddings: its vectors come in reversed order, each with its right ``index``
    say:                every chat completion is this text, whatever was asked: a passage that was not given, a
                        quotation nobody wrote, nothing at all
    finish:             and ends with this ``finish_reason``, such as ``length`` or ``content_filter``; an empty one is
                        missing, as where a proxy closes the connection. ``stop`` unless told

    Raises ValueError for a value that makes no sense.
    """

    latency_ms: float = 0.0
    token_delay_ms: float = 0.0
    fail_first: int | None = None
    status: int | None = None
    retry_after_s: float | None = None
    retry_after_ms: float | None = None
    break_stream_after: int | None = None
    drop_embeddings: int = 0
    reverse_embeddings: bool = False
    say: str | None = None
    finish: str | None = None

    def __post_init__(self) -> None:
        for name in BehaviourOptions.__annotations__:
            value = getattr(self, name)
            if isinstance(value, int | float) and value < 0:
                raise ValueError(f"{name} is {value}; it cannot be negative")
        if self.finish is not None and self.say is None:
            raise ValueError("finish needs an answer to go with: add say")
        if self.status is not None and not 400 <= self.status <= 599:
            raise ValueError(f"status is {self.status}; a failure has a status from 400 to 599")
        pauses = (self.retry_after_s, self.retry_after_ms)
        if not self.fails and any(pause is not None for pause in pauses):
            raise ValueError("retry_after needs a failure to go with: add fail_first or status")

    @property
    def fails(self) -> bool:
        """Whether any request is to fail."""
        return bool(self.fail_first) or (self.fail_first is None and self.status is not None)

    def fails_on(self, request_number: int) -> bool:
        """Whether the request with this number, counted from 0, is to fail."""
        return self.fails and (self.fail_first is None or request_number < self.fail_first)

    @property
    def failure_status(self) -> int:
        """HTTP status of the failures."""
        return self.status or 429

    @property
    def retry_headers(self) -> dict[str, str]:
        """The headers that tell a client when to come back."""
        headers = {}
        if self.retry_after_s is not None:
            headers["retry-after"] = f"{self.retry_after_s:g}"
        if self.retry_after_ms is not None:
            headers["retry-after-ms"] = f"{self.retry_after_ms:g}"
        return headers

    @property
    def alters_embeddings(self) -> bool:
        """Whether embeddings answers are to be changed."""
        return self.drop_embeddings > 0 or self.reverse_embeddings
