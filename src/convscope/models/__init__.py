"""Classic architectures, one paper a file, each with a card in the catalogue."""

from __future__ import annotations

from convscope.models.catalog import MODELS, Card, Entry, create_model, list_models
from convscope.spec import spec_of

__all__ = ["MODELS", "Card", "Entry", "create_model", "list_models", "spec_of"]
