"""The explorer: a page in the browser with every number of a network, and where it comes from."""

from convscope.explorer.serve import Handle, explore, serve

__all__ = ["Handle", "explore", "serve"]
