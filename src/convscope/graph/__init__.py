"""The one graph that all readers of a model share, and what is asked of it."""
