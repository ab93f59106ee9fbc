"""An app that is not the course's: models in a schema of their own, an address from its own environment."""
