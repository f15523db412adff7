"""The work behind ``restore-rwkv``: what each command does with files, and what it says.

A command returns (values, text, exit code): plain values for ``--json``, the same as text for a person.
"""
