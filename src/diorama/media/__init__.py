"""Media: the only room that knows files. Reads, writes, probes and resizes; knows nothing of models.

Frames are ``[T, H, W, 3]`` uint8 here and nowhere else.
"""

from __future__ import annotations

from diorama.media.clip import Audio, Clip, Pixels
from diorama.media.codec import TimedFrame, decode_bytes, decode_picture, encode_bytes, encode_picture
from diorama.media.probe import VideoInfo, probe, read_metadata
from diorama.media.read import iter_frames, read_clip
from diorama.media.resize import Fit, Placement, place, plan, resize
from diorama.media.sheet import contact_sheet, save_image, thumbnail
from diorama.media.tensors import from_tensor, to_tensor
from diorama.media.write import ENDINGS, check_output, save_clip, save_frames

__all__ = [
    "ENDINGS",
    "Audio",
    "Clip",
    "Fit",
    "Pixels",
    "Placement",
    "TimedFrame",
    "VideoInfo",
    "check_output",
    "contact_sheet",
    "decode_bytes",
    "decode_picture",
    "encode_bytes",
    "encode_picture",
    "from_tensor",
    "iter_frames",
    "place",
    "plan",
    "probe",
    "read_clip",
    "read_metadata",
    "resize",
    "save_clip",
    "save_frames",
    "save_image",
    "thumbnail",
    "to_tensor",
]
