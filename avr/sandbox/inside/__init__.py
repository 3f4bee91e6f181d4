"""Hold what runs in the sandbox's own processes, which start once a program.

Modules here import nothing that takes milliseconds (typing 5, pathlib 15, dataclasses 15 of an
interpreter's 20), so `os.path` stands for `Path`, and types are imported for type checkers alone.
"""
