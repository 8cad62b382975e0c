"""What operators and nodes ask of a node, and what is answered: frozen values, one table of calls,
one codec.

Clients, commands, chaos and bench import this room and nothing else of `admin`.
"""
