"""schemathesis over the OpenAPI document: whatever a client sends, it gets no 500, and each error is a problem."""

from __future__ import annotations

from itertools import count
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from course_lib.service.problems import MEDIA_TYPE
from tests.service.running import Serving

EXAMPLES, WITH_SOAK = 10, 120  # of each operation
NUMBERS = count()


def key_of_somebody_new(running: Serving) -> dict[str, str]:
    """An account for each operation: one of them closes it."""
    asked = {"email": f"fuzzed{next(NUMBERS)}@example.org", "name": "Fuzzed"}
    answer = httpx2.post(f"{running.address}/accounts", json=asked, trust_env=False)
    return {"Authorization": f"Bearer {answer.json()['key']['secret']}"}


def test_no_input_is_a_fault_of_the_service(
    running: Serving, subtests: pytest.Subtests, pytestconfig: pytest.Config
) -> None:
    import schemathesis  # takes a second, which no other worker needs

    schema = schemathesis.openapi.from_dict(running.documented.document)
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 15
    examples = WITH_SOAK if pytestconfig.getoption("--soak") else EXAMPLES
    for operation in operations:
        with subtests.test(operation.label):
            send_all_kinds(running, operation, key_of_somebody_new(running), examples)


def send_all_kinds(running: Serving, operation: Any, headers: dict[str, str], examples: int) -> None:
    @settings(
        max_examples=examples, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy())
    def sends(case: Any) -> None:
        response = case.call(base_url=running.address, headers=headers)
        assert response.status_code < 500, response.text
        if response.status_code >= 400:
            assert response.headers["content-type"][0].partition(";")[0] == MEDIA_TYPE, response.text

    sends()
