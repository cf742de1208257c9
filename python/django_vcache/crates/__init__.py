"""Crates of hot paths, as a project has them: the Rust source that they are compiled with, how they are found, built
and checked, and how a development server follows their source. No server in production imports it.
"""

__all__ = ["CrateError"]


class CrateError(Exception):
    """What is wrong with a crate, or why it cannot be built. The text is for the person at the terminal."""
