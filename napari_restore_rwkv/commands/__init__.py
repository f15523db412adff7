"""The work behind ``restore-rwkv``: what each command does with files, and what it says.

A command returns (values, text, exit code): plain values for ``--json``, and the same as text for the user.
"""
