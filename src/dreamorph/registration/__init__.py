"""Batched pairwise registration: affine, then a stationary velocity field, in 2D and 3D."""

from dreamorph.registration.config import AffineConfig, RegistrationConfig, VelocityConfig
from dreamorph.registration.register import RegistrationResult, register

__all__ = [
    "AffineConfig",
    "RegistrationConfig",
    "RegistrationResult",
    "VelocityConfig",
    "register",
]
