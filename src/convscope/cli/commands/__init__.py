"""One command a file: each module has a ``command``, and its own name, with ``-`` for ``_``, is what a person types.

Modules import nothing heavy at their top, so that the help stays quick; what a command needs it imports when it runs.
"""
