"""The words of captions: for every attribute of a scene the phrases that name it, and those kept for evaluation.

Both tables have the same keys, so a caption can be written with either. Verbs are third person singular.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["RESERVED", "SYNONYMS", "Words"]

Words = Mapping[str, Mapping[str, tuple[str, ...]]]
"""Attribute to value to phrases, for example ``words["shape"]["sphere"]``."""

SYNONYMS: Words = {
    "size": {"small": ("small", "little", "tiny"), "medium": ("medium-sized", "medium"), "large": ("large", "big", "huge")},
    "finish": {
        "matte": ("matte", "dull"),
        "glossy": ("glossy", "shiny", "polished"),
        "mirror": ("mirrored", "mirror-like", "reflective", "chrome"),
    },
    "color": {
        "red": ("red",),
        "orange": ("orange",),
        "yellow": ("yellow",),
        "green": ("green",),
        "cyan": ("cyan", "turquoise"),
        "blue": ("blue",),
        "purple": ("purple",),
        "pink": ("pink",),
        "white": ("white",),
        "black": ("black",),
    },
    "shape": {
        "sphere": ("ball", "sphere"),
        "box": ("cube", "box", "block"),
        "cylinder": ("cylinder", "drum"),
        "cone": ("cone",),
        "capsule": ("capsule", "pill"),
    },
    "motion": {
        "rest": ("rests", "stands still", "sits still", "stays still"),
        "roll": ("rolls", "rolls along"),
        "slide": ("slides", "slides along", "moves"),
        "bounce": ("bounces", "bounces up and down", "jumps up and down"),
        "fall": ("falls", "falls down", "drops from above", "falls onto the floor"),
        "collide": ("hits", "collides with", "bumps into", "knocks into"),
        "swing": ("swings", "swings back and forth", "swings from side to side", "sways back and forth"),
        "pass_behind": ("passes behind", "goes behind", "moves behind", "passes in back of"),
    },
    "direction": {
        "left": ("to the left", "left", "leftward", "from right to left", "towards the left"),
        "right": ("to the right", "right", "rightward", "from left to right", "towards the right"),
        "toward": ("toward the camera", "closer", "towards us", "toward the viewer"),
        "away": ("away from the camera", "away", "into the distance", "away from us"),
    },
    "beside": {"": ("next to", "beside", "near")},
    "floor": {
        "checker": ("on a checkered floor", "on a checkerboard floor", "on checkered ground"),
        "stripe": ("on a striped floor", "on a floor with stripes", "on striped ground"),
        "brick": ("on a brick floor", "on bricks", "on a floor of bricks"),
        "wood": ("on a wooden floor", "on a wood floor", "on wooden planks"),
        "grass": ("on grass", "on a lawn", "on green grass", "on grassy ground"),
        "concrete": ("on a concrete floor", "on plain concrete", "on concrete ground"),
    },
    "backdrop": {
        "open": ("under the open sky", "outdoors", "outside", "in an open field"),
        "walls": ("in a room", "inside a room with walls", "in front of walls", "indoors"),
    },
    "light": {
        "day": ("by day", "in daylight", "during the day", "on a sunny day", "in bright sunlight"),
        "sunset": ("at sunset", "in the evening", "in warm sunset light", "in evening light"),
        "night": ("at night", "in the night", "in moonlight", "on a dark night"),
    },
    "camera": {
        "static": ("the camera stays still", "the camera holds still", "the camera remains fixed", "the camera stands still"),
        "orbit_left": ("the camera orbits left", "the camera orbits to the left", "the camera circles left", "the camera moves around to the left"),
        "orbit_right": (
            "the camera orbits right",
            "the camera orbits to the right",
            "the camera circles right",
            "the camera moves around to the right",
        ),
        "dolly_in": ("the camera moves in", "the camera pushes in", "the camera dollies in", "the camera moves closer"),
        "dolly_out": ("the camera pulls back", "the camera moves back", "the camera dollies out", "the camera pulls away"),
        "crane_up": ("the camera rises", "the camera cranes up", "the camera moves up"),
        "crane_down": ("the camera lowers", "the camera cranes down", "the camera moves down"),
        "pan_left": ("the camera pans left", "the camera pans to the left", "the camera turns left"),
        "pan_right": ("the camera pans right", "the camera pans to the right", "the camera turns right"),
        "tilt_up": ("the camera tilts up", "the camera looks up", "the camera tilts upward"),
        "tilt_down": ("the camera tilts down", "the camera looks down", "the camera tilts downward"),
    },
    "shot": {
        "static": ("static shot", "fixed camera", "static camera"),
        "orbit_left": ("orbit shot to the left", "camera orbit left"),
        "orbit_right": ("orbit shot to the right", "camera orbit right"),
        "dolly_in": ("dolly in", "push in shot"),
        "dolly_out": ("dolly out", "pull back shot"),
        "crane_up": ("crane up", "crane shot going up"),
        "crane_down": ("crane down", "crane shot going down"),
        "pan_left": ("pan left", "pan to the left"),
        "pan_right": ("pan right", "pan to the right"),
        "tilt_up": ("tilt up", "upward tilt"),
        "tilt_down": ("tilt down", "downward tilt"),
    },
}
"""What captions say."""

RESERVED: Words = {
    "size": {"small": ("miniature", "teeny"), "medium": ("middling", "average-sized"), "large": ("gigantic", "enormous", "massive")},
    "finish": {"matte": ("chalky", "lusterless"), "glossy": ("gleaming", "lacquered"), "mirror": ("metallic", "looking-glass")},
    "color": {
        "red": ("crimson", "scarlet", "ruby"),
        "orange": ("tangerine", "amber"),
        "yellow": ("golden", "lemon"),
        "green": ("emerald", "jade"),
        "cyan": ("aqua", "teal"),
        "blue": ("azure", "sapphire", "cobalt"),
        "purple": ("violet", "plum"),
        "pink": ("rose", "magenta"),
        "white": ("ivory", "snowy"),
        "black": ("ebony", "charcoal"),
    },
    "shape": {
        "sphere": ("orb", "globe"),
        "box": ("hexahedron", "cubic crate", "dice"),
        "cylinder": ("tube", "pillar", "can"),
        "cone": ("funnel", "spike"),
        "capsule": ("lozenge", "tablet"),
    },
    "motion": {
        "rest": ("stays put", "remains in place"),
        "roll": ("trundles", "tumbles along"),
        "slide": ("glides", "skates"),
        "bounce": ("hops", "springs up and down"),
        "fall": ("plummets", "plunges down"),
        "collide": ("smashes into", "crashes into", "strikes"),
        "swing": ("oscillates", "rocks to and fro"),
        "pass_behind": ("disappears behind", "travels behind"),
    },
    "direction": {
        "left": ("toward the left edge", "to the left-hand side"),
        "right": ("toward the right edge", "to the right-hand side"),
        "toward": ("toward the lens", "nearer"),
        "away": ("farther off", "off toward the horizon"),
    },
    "beside": {"": ("alongside", "adjacent to")},
    "floor": {
        "checker": ("on a chessboard surface",),
        "stripe": ("on a banded surface",),
        "brick": ("on masonry paving",),
        "wood": ("on parquet", "on timber boards"),
        "grass": ("on a meadow", "on turf"),
        "concrete": ("on cement", "on bare pavement"),
    },
    "backdrop": {"open": ("in the open air",), "walls": ("in an enclosed chamber",)},
    "light": {
        "day": ("at noon", "at midday"),
        "sunset": ("at dusk", "at twilight"),
        "night": ("in the nighttime", "at midnight", "after dark"),
    },
    "camera": {
        "static": ("the view never changes", "the shot keeps motionless"),
        "orbit_left": ("the view circles to the left", "the view revolves leftward"),
        "orbit_right": ("the view circles to the right", "the view revolves rightward"),
        "dolly_in": ("the view zooms in", "the shot gets nearer"),
        "dolly_out": ("the view zooms out", "the shot backs off"),
        "crane_up": ("the viewpoint climbs", "the view ascends"),
        "crane_down": ("the viewpoint sinks", "the view descends"),
        "pan_left": ("the view swivels left", "the view sweeps left"),
        "pan_right": ("the view swivels right", "the view sweeps right"),
        "tilt_up": ("the lens tips upward", "the view angles up"),
        "tilt_down": ("the lens tips downward", "the view angles down"),
    },
    "shot": {
        "static": ("motionless view",),
        "orbit_left": ("revolving view, leftward",),
        "orbit_right": ("revolving view, rightward",),
        "dolly_in": ("zoom in",),
        "dolly_out": ("zoom out",),
        "crane_up": ("ascending view",),
        "crane_down": ("descending view",),
        "pan_left": ("leftward sweep",),
        "pan_right": ("rightward sweep",),
        "tilt_up": ("view angled up",),
        "tilt_down": ("view angled down",),
    },
}
"""What captions never say, so that evaluation can ask with words unseen in training."""
