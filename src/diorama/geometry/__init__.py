"""Geometry: can a video be understood as 3D? SfM, a radiance field and Gaussian splatting on anyone's video, and what they say about it.

Frames are uint8 ``[T, H, W, 3]`` as in ``media``; cameras are world-to-camera with OpenCV axes, pixels, pixel centres at 0.5; the unit of
length is the reconstruction's own unless true cameras are given. Nothing here knows of models that generate.
"""
