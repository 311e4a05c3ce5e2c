"""Every question that the page may ask; a new one is a function with ``@operation`` in one of these files."""
