"""The deformation prior: what is learned, sampled, scored and saved."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from pydantic import ValidationError

from dreamorph.errors import PriorError
from dreamorph.fingerprint import fingerprint
from dreamorph.parallel import one_thread_each
from dreamorph.prior.basis import CosineBasis, sobolev_spectrum
from dreamorph.prior.checks import check_members
from dreamorph.prior.config import PriorConfig
from dreamorph.prior.diagnostics import diagnose
from dreamorph.prior.gaussian import (
    MemberGaussian,
    Residual,
    SiteGaussian,
    centre_by_class,
    fit_class,
    on_sites,
)
from dreamorph.prior.localisation import Localisation
from dreamorph.prior.selection import Population, choose
from dreamorph.spatial.affine import affine_exp, affine_log, identity_affine

#: Of the file.
FORMAT = 2
#: What a file holds beside format and configuration: what `fit` is given.
CONTENT = ("fields", "extent_mm", "affines", "members", "subjects", "classes")
#: Counts up whenever the same classes would give another prior; without classes it is not read.
CLASS_VERSION = 2
#: Share of the largest value up to which fields count as the same.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Draw:
    """One random deformation of the population, reproducible from its seed.

    Attributes:
        field: `(ndim, *coarse)` velocity from the common space to the dreamed subject, mm.
        affine: `(n, n)` float64 map from the common space to the dreamed subject.
    """

    field: torch.Tensor
    affine: torch.Tensor


class DeformationPrior:
    """Gaussian over velocity fields and affine maps, one per class, learned from a population.

    A member i is the map `T_i . exp(w_i)` from a common space to that volume. Each class is a
    Gaussian: every place takes its own mixture of the members' deformations, the mixtures varying
    smoothly (see `localisation`), plus an isotropic residual with the population's smooth spectrum.
    How local, and how much residual, is what makes left-out subjects likeliest (see `selection`).
    Affine maps have a Gaussian on their logarithms.

    Fields are comparable in one space alone: the pairs have to be aligned first and then registered
    in the common space, with `RegistrationConfig(affine=None)`. A complete example, from volumes to
    dreams, is in docs/method.md ("By hand").

    Usage:
        prior = DeformationPrior(PriorConfig()).fit(fields, extent_mm)
        velocities = prior.sample(8, generator=torch.Generator().manual_seed(0))
    """

    def __init__(self, config: PriorConfig | None = None) -> None:
        self.config = config or PriorConfig()
        self.members: list[str] = []
        self.subjects: list[str] = []
        self.classes: list[str | None] = []
        self.diagnostics: dict[str, float] = {}
        #: Identity of what was learned: members, fields and parameters.
        self.fingerprint = ""

    def fit(
        self,
        fields: torch.Tensor,
        extent_mm: Sequence[float],
        affines: torch.Tensor | None = None,
        members: Sequence[str] | None = None,
        subjects: Sequence[str] | None = None,
        classes: Sequence[str | None] | None = None,
    ) -> "DeformationPrior":
        """Learn from population fields (see `solve_population`).

        Args:
            fields: `(N, ndim, *coarse)` velocities from the common space to each member, mm.
            extent_mm: edge lengths of their grid.
            affines: `(N, n, n)` maps from the common space to each member; None is the identity.
            members: names of the volumes; None numbers them.
            subjects: whom each volume shows, left out together; None takes each for its own.
            classes: class of each volume, None where unknown.

        Returns:
            The prior itself, fitted.

        Raises:
            PriorError: fewer than three members or two subjects, names that are not one for each
                field and all different, affine maps of another size or that mirror or turn by half
                a circle, edge lengths that are not positive, fields that are not finite, or none
                that differ within their class.
        """
        with one_thread_each():  # small matrices: where a machine has other work, threads that wait
            # for each other take ten times as long as one
            self._fit(fields, extent_mm, affines, members, subjects, classes)
        return self

    @property
    def class_names(self) -> list[str | None]:
        """Classes that can be sampled; `[None]` where the population has none."""
        known = sorted({c for c in self.classes if c is not None})
        return list(known) if known else [None]

    @property
    def extent_mm(self) -> tuple[float, ...]:
        """Edge lengths of the grid of the fields."""
        self._require_fit()
        return self.basis.extent_mm

    def draw(self, seed: int, cls: str | None = None, scale: float = 1.0) -> Draw:
        """The deformation that belongs to a seed, the same on every call.

        Args:
            seed: names the draw.
            cls: class to draw from; None where the population has no classes.
            scale: factor on the deviation from the class's mean.

        Raises:
            PriorError: the class is unknown.
        """
        generator = torch.Generator().manual_seed(seed)
        gaussian = self._gaussian(cls)
        field = gaussian.sample(generator, scale)
        mean, factor = self._affine_statistics[cls]
        turns = torch.randn(factor.shape[1], generator=generator, dtype=torch.float64)
        log = (mean + scale * factor @ turns).reshape(self.affines.shape[1:])
        return Draw(field, affine_exp(log[None])[0])

    def sample(
        self, n: int, generator: torch.Generator | None = None, cls: str | None = None
    ) -> torch.Tensor:
        """`n` velocity fields `(n, ndim, *coarse)` in mm, from the common space to new subjects.

        Of one class; without one, of all classes alike.

        Raises:
            PriorError: none is asked for, the class is unknown, or the generator is none.
        """
        if n < 1 or not (generator is None or isinstance(generator, torch.Generator)):
            raise PriorError(
                f"expected at least one field and a torch.Generator or None, got {n} and"
                f" {type(generator).__name__}"
            )
        names = self.class_names
        seeds = torch.randint(2**31 - 1, (n, 2), generator=generator)
        picked = [cls if cls is not None else names[int(s) % len(names)] for s in seeds[:, 1]]
        return torch.stack(
            [self.draw(int(s), c).field for s, c in zip(seeds[:, 0], picked, strict=True)]
        )

    def log_density(self, fields: torch.Tensor, cls: str | None = None) -> torch.Tensor:
        """Log density `(n,)` of velocity fields `(n, ndim, *coarse)`: of their values at the sites.

        The sites are a sub-grid coarse enough for the values to be free (`PriorConfig.sites`). Of
        one class; without one, of all classes alike, as `sample` draws them.

        Raises:
            PriorError: the fields are not on the prior's grid, or the class is unknown.
        """
        self._require_fit()
        if fields.shape[1:] != self.fields.shape[1:]:
            expected = ", ".join(map(str, self.fields.shape[1:]))
            raise PriorError(f"expected fields (n, {expected}), got {tuple(fields.shape)}")
        names = self.class_names
        if cls is None and names != [None]:
            of_each = torch.stack([self.log_density(fields, name) for name in names])
            return of_each.logsumexp(dim=0) - math.log(len(names))
        gaussian = self._gaussian(cls)
        if cls not in self._at_sites:
            self._at_sites[cls] = gaussian.at(self._sites)
        points = on_sites(fields.detach().cpu(), self._sites)
        return self._at_sites[cls].log_density(points, gaussian.shrinkage)

    def mode(self, index: int, cls: str | None = None) -> torch.Tensor:
        """Field `(ndim, *coarse)` of one standard deviation along a mode of the members, in mm."""
        self._gaussian(cls)
        fields, variances = self._modes[cls]
        return (fields[index] * variances[index].sqrt()).float()

    def mode_variances(self, cls: str | None = None) -> torch.Tensor:
        """Variances `(q,)` of the members along their modes, decreasing."""
        self._gaussian(cls)
        return self._modes[cls][1]

    def mean(self, cls: str | None = None) -> torch.Tensor:
        """Mean field `(ndim, *coarse)` of a class in mm."""
        return self._gaussian(cls).mean

    def energy(self) -> float:
        """Mean squared deviation of a drawn field from its class's mean, mm^2 per voxel."""
        self._require_fit()
        return sum(g.variance for g in self.gaussians.values()) / len(self.gaussians)

    def save(self, path: str | Path) -> None:
        """Write the prior to one file; raises PriorError where it is not fitted."""
        state: dict[str, Any] = {
            "format": FORMAT,
            "config": self.config.model_dump(),
            "extent_mm": list(self.extent_mm),
            "fields": self.fields,
            "affines": self.affines,
            "members": self.members,
            "subjects": self.subjects,
            "classes": self.classes,
        }
        torch.save(state, path)

    @classmethod
    def load(cls, path: str | Path) -> "DeformationPrior":
        """Read a prior written by `save`; it is fitted again from its fields, in a second or so.

        Raises:
            PriorError: the file is not a whole prior of this format.
            FileNotFoundError: there is none.
        """
        name = Path(path).name
        try:
            state = torch.load(path, weights_only=True)
        except FileNotFoundError:
            raise
        except (TypeError, ValueError, EOFError, OSError, RuntimeError, UnpicklingError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise PriorError(f"{name} is not a deformation prior: {reason}") from error
        if not isinstance(state, dict) or "format" not in state:
            raise PriorError(f"{name} is not a deformation prior: it names no format")
        if state["format"] != FORMAT:
            raise PriorError(
                f"{name} is a prior of format {state['format']}, expected {FORMAT}: "
                "learn it again (kedro run --pipelines prior)"
            )
        missing = [key for key in ("config", *CONTENT) if key not in state]
        if missing:
            raise PriorError(f"{name} is not a deformation prior: it lacks {', '.join(missing)}")
        try:
            config = PriorConfig.model_validate(state["config"])
        except ValidationError as error:
            where = ".".join(str(key) for key in error.errors()[0]["loc"])
            raise PriorError(
                f"{name} was learned with another configuration ({where}:"
                f" {error.errors()[0]['msg']}): learn it again (kedro run --pipelines prior)"
            ) from error
        return cls(config).fit(**{key: state[key] for key in CONTENT})

    def coefficients(self, field: torch.Tensor, cls: str | None = None) -> tuple[float, ...]:
        """Standard scores of a field `(ndim, *coarse)` along the first modes of a class."""
        self._gaussian(cls)
        fields, variances = (part[: self.config.modes] for part in self._modes[cls])
        deviation = (field - self.gaussians[cls].mean).double().flatten()
        return tuple((fields.flatten(1) @ deviation / variances.sqrt()).tolist())

    def _require_fit(self) -> None:
        if not self.members:
            raise PriorError("the prior is not fitted: call fit or load first")

    def _gaussian(self, cls: str | None) -> MemberGaussian:
        self._require_fit()
        if cls is None and cls not in self.gaussians:
            raise PriorError(f"the prior has classes: name one of {self.class_names} as cls")
        if cls not in self.gaussians:
            raise PriorError(f"unknown class {cls!r}, expected one of {self.class_names}")
        return self.gaussians[cls]

    def _fit(
        self,
        fields: torch.Tensor,
        extent_mm: Sequence[float],
        affines: torch.Tensor | None,
        members: Sequence[str] | None,
        subjects: Sequence[str] | None,
        classes: Sequence[str | None] | None,
    ) -> None:
        count, ndim = fields.shape[0], fields.shape[1]
        self.members = []  # named last: a prior without members is not fitted
        names = [str(k) for k in range(count)] if members is None else list(members)
        self.subjects = list(names) if subjects is None else list(subjects)
        self.classes = [None] * count if classes is None else list(classes)
        self.affines = identity_affine(count, ndim) if affines is None else affines.cpu().double()
        check_members(fields, extent_mm, self.affines, names, self.subjects, self.classes)
        self.fields = fields.detach().cpu().float()
        self.basis = CosineBasis.up_to(fields.shape[2:], extent_mm, self.config.wavelength_voxels)
        centred = centre_by_class(self.fields, self.classes)
        if float(centred.abs().max()) <= ROUNDING * float(self.fields.abs().max()):
            raise PriorError(
                "all volumes of a class have the same field: there is nothing to learn"
            )
        deviations = self.basis.analyse(centred.double())
        spectrum = sobolev_spectrum(self.basis.frequency(), deviations.square().mean(0))
        residual = Residual(self.basis, spectrum)
        population = Population(self.fields, self.subjects, self.classes, residual)
        chosen = choose(population, self.config)
        taper = Localisation.of_length(
            self.basis.shape, self.basis.extent_mm, chosen.best.length_mm
        )
        self.gaussians = {
            cls: MemberGaussian(
                *fit_class(self.fields, self.classes, cls, self.config.class_pooling),
                residual,
                taper,
                chosen.best.shrinkage,
            )
            for cls in self.class_names
        }
        self._modes = {cls: gaussian.modes() for cls, gaussian in self.gaussians.items()}
        self._sites = chosen.sites
        self._at_sites: dict[str | None, SiteGaussian] = {}
        self._fit_affines()
        self.fingerprint = fingerprint(
            FORMAT, self.config, names, self.subjects, self.classes, self.fields,
            self.affines, *([CLASS_VERSION] if any(self.classes) else []),
        )  # fmt: skip
        mean, factor = fit_class(self.fields, self.classes, None, self.config.class_pooling)
        whole = MemberGaussian(mean, factor, residual, taper, chosen.best.shrinkage)
        self.diagnostics = diagnose(population, chosen, whole, self.config)
        self.members = names

    def _fit_affines(self) -> None:
        logs = affine_log(self.affines).flatten(1)
        self._affine_statistics: dict[str | None, tuple[torch.Tensor, torch.Tensor]] = {}
        for cls in self.class_names:
            mean, deviations = fit_class(logs, self.classes, cls, self.config.class_pooling)
            covariance = deviations.T @ deviations
            diagonal = torch.diag(torch.diagonal(covariance))
            share = self.config.affine_shrinkage
            values, vectors = torch.linalg.eigh((1 - share) * covariance + share * diagonal)
            factor = vectors * values.clamp(min=0).sqrt()
            self._affine_statistics[cls] = (mean, factor)
