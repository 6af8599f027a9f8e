"""Minds: load a language model, read its residual stream, steer it, score text with it. Floor: models, above assets."""

from papercore.models.errors import ModelError
from papercore.models.load import load_model
from papercore.models.model import Model
from papercore.models.steer import Steer

__all__ = ["Model", "ModelError", "Steer", "load_model"]
