"""What a Python function is: itself and all of the user's own that it reaches, as a module of text that runs.

Standard library only, on CPython 3.11 to 3.14.
"""
