"""The routes, one module for each thing they are about."""

from course_lib.service.routers import accounts, conversations, documents, health, jobs, questions

ROUTERS = [health.router, accounts.router, jobs.router, conversations.router, questions.router]
"""All but that of documents, whose bodies may be larger."""

__all__ = ["ROUTERS", "documents"]
