"""A class: what its teacher needs around the lessons. Running it is JupyterHub's work, and grading is nbgrader's."""
