"""Refusals in the shape OpenAI gives them, so that the SDK raises its own exceptions."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """An HTTP status of 400 or more with OpenAI's error object as its body."""

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param

    def body(self) -> dict[str, Any]:
        """``{"error": {message, type, param, code}}``."""
        error = {
            "message": self.message,
            "type": "invalid_request_error",
            "param": self.param,
            "code": self.code,
        }
        return {"error": error}


def bad_request(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """HTTP 400, ``openai.BadRequestError``."""
    return ApiError(400, message, param=param, code=code)


def check_model(asked: object, offline_name: str, constant: str) -> None:
    """Raise HTTP 400 without a model and 404 for any but the offline one."""
    if not isinstance(asked, str) or not asked:
        raise bad_request("you must provide a model parameter", param="model")
    if asked != offline_name:
        raise ApiError(
            404,
            f"The model `{asked}` does not exist here: no key is set, so '{offline_name}' answers. "
            f"Write model={constant}, or set OPENAI_API_KEY to reach `{asked}`.",
            code="model_not_found",
        )
