"""Plans: how PostgreSQL means to run a statement, or has run it."""

from course_lib.instruments.plan.ask import explain
from course_lib.instruments.plan.tree import Plan, PlanNode

__all__ = ["Plan", "PlanNode", "explain"]
