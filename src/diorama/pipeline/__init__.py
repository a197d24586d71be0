"""From a request to a clip: encode the prompt, apply conditioning items, follow the flow, decode.

The room promises that the same request on the same model gives the same bytes on the same machine, and that every mode
runs through one ``generate``: a mode is a short function that returns conditioning items.
"""

from __future__ import annotations

from diorama.pipeline.generate import Progress, generate, memory_needed
from diorama.pipeline.items import Guide, Item, Keep, Region, Ring, StartFrom
from diorama.pipeline.load import Models, SchedulerConfig, load_models, model_folder, save_models, write_index
from diorama.pipeline.pipeline import Pipeline
from diorama.pipeline.request import Options, Request, make_request
from diorama.pipeline.state import Cue, LatentState, blank
from diorama.pipeline.storyboard import Card, Storyboard

__all__ = [
    "Card",
    "Cue",
    "Guide",
    "Item",
    "Keep",
    "LatentState",
    "Models",
    "Options",
    "Pipeline",
    "Progress",
    "Region",
    "Request",
    "Ring",
    "SchedulerConfig",
    "StartFrom",
    "Storyboard",
    "blank",
    "generate",
    "load_models",
    "make_request",
    "memory_needed",
    "model_folder",
    "save_models",
    "write_index",
]
