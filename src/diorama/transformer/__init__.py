"""The diffusion transformer: a pack of noised tokens and a text to velocities. It knows nothing of solvers, files of video or training."""

from diorama.transformer.config import TransformerConfig
from diorama.transformer.model import Transformer
from diorama.transformer.reuse import Residuals, Reuse
from diorama.transformer.text import TextCache

__all__ = ["Residuals", "Reuse", "TextCache", "Transformer", "TransformerConfig"]
