"""The routes, one module for each thing they are about."""

from course_lib.service.routers import accounts, conversations, documents, health, jobs, questions

ROUTERS = [health.router, accounts.router, documents.router, jobs.router, conversations.router, questions.router]

__all__ = ["ROUTERS"]
