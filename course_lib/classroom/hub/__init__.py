"""A class behind JupyterHub: the folder from which a hub starts on one machine, and the values for a cluster."""

from course_lib.classroom.hub.writing import Hub

__all__ = ["Hub"]
