"""The explorer: a page in the browser that shows a network's every number, forward and backward, and where it comes from."""

from convscope.explorer.serve import Handle, explore, serve

__all__ = ["Handle", "explore", "serve"]
