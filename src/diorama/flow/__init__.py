"""Rectified flow: the path, its times, the loss, guidance, solvers and the rolling window of long videos.

The room promises that values with start time 0 come out bit-equal and that every mode runs through one loop; clips longer
than what the model sees at once are rolled through it. It takes the model as a callable and knows neither tokens nor text.
"""

from __future__ import annotations

from diorama.flow.guidance import Guidance, PairVelocity, Velocity, combine, guided
from diorama.flow.loss import frame_losses, velocity_loss
from diorama.flow.path import data_from_velocity, interpolate, noise_from_velocity, velocity_target
from diorama.flow.rolling import Window, WindowVelocity, roll
from diorama.flow.sample import sample
from diorama.flow.solvers import SOLVERS, Solver, SolverName, euler, heun, multistep, unipc
from diorama.flow.times import FrameTimes, Mixture, MixtureKind, logit_normal, sample_frame_times, schedule, shift, shift_for

__all__ = [
    "SOLVERS",
    "FrameTimes",
    "Guidance",
    "Mixture",
    "MixtureKind",
    "PairVelocity",
    "Solver",
    "SolverName",
    "Velocity",
    "Window",
    "WindowVelocity",
    "combine",
    "data_from_velocity",
    "euler",
    "frame_losses",
    "guided",
    "heun",
    "interpolate",
    "logit_normal",
    "multistep",
    "noise_from_velocity",
    "roll",
    "sample",
    "sample_frame_times",
    "schedule",
    "shift",
    "shift_for",
    "unipc",
    "velocity_loss",
    "velocity_target",
]
