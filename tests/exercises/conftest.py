"""Shared tests show what they compared, as tests do."""

import pytest

pytest.register_assert_rewrite("tests.exercises.fairness")
