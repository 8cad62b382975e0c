"""Delivery rules in the language Sieve (RFC 5228): from a script's text to what is to be done.

Nothing here does I/O or reads a clock. The way of a script:

1. `lexer` makes tokens of it, and `grammar` a tree of nodes (`nodes`).
2. `compiler` checks the tree against the tables in `catalogue`, and lays it out as a flat list of
   steps (`program`). What is wrong is told with its line and column.
3. `script_run.ScriptRun` takes the steps one after the other, over a message (`rule_message`). It
   gives actions (`actions`), which somebody else carries out.

Texts are octets in UTF-8, as RFC 5228 section 2.7.3 compares them. Every script ends: it has no
loops, and what one run may take is bounded by `rule_limits`.
"""
