"""From latents to flat token packs and back: patches, positions, packing. It knows nothing of models, files or noise."""

from diorama.patches.pack import Pack, pack, unpack
from diorama.patches.patchify import grid_of, patchify, unpatchify
from diorama.patches.positions import Coordinates, places, positions

__all__ = ["Coordinates", "Pack", "grid_of", "pack", "patchify", "places", "positions", "unpack", "unpatchify"]
