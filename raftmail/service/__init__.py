"""The front door of a node: what every front end asks of it, and nothing below it."""
