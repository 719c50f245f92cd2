"""Batched pairwise registration: affine, then a stationary velocity field, in 2D and 3D."""

from dreamorph.registration.config import AffineConfig, RegistrationConfig, VelocityConfig
from dreamorph.registration.export import itk_displacement, save_itk_displacement
from dreamorph.registration.register import RegistrationResult, register

__all__ = [
    "AffineConfig",
    "RegistrationConfig",
    "RegistrationResult",
    "VelocityConfig",
    "itk_displacement",
    "register",
    "save_itk_displacement",
]
