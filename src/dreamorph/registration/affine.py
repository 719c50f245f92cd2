"""Batched affine registration by gradient descent on the matrix logarithm, from several starts."""

import math
from dataclasses import dataclass
from itertools import product

import torch

from dreamorph.registration.config import AffineConfig, RegistrationConfig
from dreamorph.registration.descent import by_autograd, minimise
from dreamorph.registration.pyramid import Pairs
from dreamorph.registration.similarity import (
    FLAT,
    Agreement,
    GlobalCorrelation,
    LocalCorrelation,
    prepare,
)
from dreamorph.spatial.affine import affine_exp, affine_log, identity_affine
from dreamorph.spatial.grid import affine_maps, points_like, sample
from dreamorph.spatial.on_gpu import takes

#: Voxels across the content of a volume, where it is narrowest, on the coarsest grid in use. With
#: 10 to 14, ten of 24 pairs of simulated brains ended in a wrong optimum that agreed better than
#: the right one; with 20, none.
NARROWEST = 16
#: How much better than every plain start a turned one must agree before it is tried.
CLEARLY = 0.05
#: Share of the overlap within reach that is enough where all of it is less than asked for.
REACHED = 0.8
#: Share of the windows that are not flat, under which only those count: about a quarter in shapes,
#: three quarters and more in scans.
MOSTLY_FLAT = 0.5
#: How much worse than the given alignment a result may agree by chance.
SLACK = 1e-3


@dataclass(frozen=True)
class AffineResult:
    """Affine maps and what went wrong with them.

    Attributes:
        matrices: `(B, n, n)` float64 from fixed to moving points in grid millimetres.
        failures: B reasons, empty where a map is fine. A failed pair keeps the given alignment;
            one whose volumes are not alike keeps the best map found, which is not to be trusted.
    """

    matrices: torch.Tensor
    failures: tuple[str, ...]


def register_affine(pairs: Pairs, config: RegistrationConfig) -> AffineResult:
    """Affine maps from fixed to moving points.

    Starts: the given alignment; the centres of mass over each other; and, where a coarse look finds
    it clearly better than both, the best of several turns about that centre. All are optimised side
    by side for a while and the best goes on. Where the final map is bad (volume change, overlap,
    worse agreement than the given alignment, or volumes that do not look alike under it), the other
    starts are carried through as well. If none ends well, the reason is reported. What is tried for
    a pair depends on that pair alone.
    """
    how = config.affine or AffineConfig()
    matrices = identity_affine(len(pairs), len(pairs.shape), pairs.fixed.device)
    failures = [""] * len(pairs)
    levels = [usable_levels(width, how.levels) for width in narrowest(pairs)]
    for alike in sorted(set(levels)):
        rows = [b for b, own in enumerate(levels) if own == alike]
        part = pairs.take(torch.tensor(rows, device=matrices.device))
        matrices[rows], reasons = _register_alike(part, config, how, alike)
        for b, reason in zip(rows, reasons, strict=True):
            failures[b] = reason
    return AffineResult(matrices, tuple(failures))


def narrowest(pairs: Pairs) -> list[int]:
    """Voxels that the content of each pair is wide where it is narrowest."""
    widths = []
    for mask in (pairs.fixed_mask, pairs.moving_mask):
        held = (mask > 0)[:, 0]
        for axis in range(1, held.dim()):
            line = held.movedim(axis, -1).flatten(1, -2).any(dim=1).long()
            before, after = line.argmax(dim=1), line.flip(1).argmax(dim=1)
            widths.append(line.shape[1] - before - after)
    narrow: list[int] = torch.stack(widths).amin(dim=0).tolist()
    return narrow


def usable_levels(width: int, levels: tuple[int, ...]) -> tuple[int, ...]:
    """Levels that still show something of so wide a volume: on fewer voxels a map runs off."""
    usable = tuple(f for f in levels if round(width / f) >= NARROWEST)
    return usable or levels[-1:]


def _register_alike(
    pairs: Pairs, config: RegistrationConfig, how: AffineConfig, levels: tuple[int, ...]
) -> tuple[torch.Tensor, list[str]]:
    """Maps of pairs that share their usable levels, and the reasons of those that failed."""
    how = how.model_copy(update={"step_mm": min(how.step_mm, pairs.voxel_mm)})
    search = _Search(config, how, {factor: pairs.at(factor) for factor in levels})
    starts, owners = _starts(search.levels[levels[0]], config, how)
    trial = max(1, how.iterations[0] // 3)
    logs = search.optimise(levels[0], owners, starts, how.step_mm, trial)
    everyone = torch.arange(len(pairs), device=starts.device)
    best, _ = _best(search.agreement(levels[0], owners, logs), owners, everyone)
    log = search.finish(everyone, logs[best], trial)
    failures = search.faults(everyone, log)
    doubts = search.doubts(everyone, log)
    bad = [b for b in range(len(pairs)) if failures[b] or doubts[b]]
    if bad:
        again = everyone[bad]
        log[again], sound = search.retry(again, owners, logs, trial)
        unsure = search.doubts(again, log[again])
        for b, fine, doubt in zip(bad, sound, unsure, strict=True):
            failures[b] = doubt if fine else failures[b] or doubt
    return affine_exp(log), failures


def _best(
    scores: torch.Tensor, owners: torch.Tensor, of: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which candidate of each pair that `of` names has the highest score, and where it is finite.

    Where it is not, the candidate may be another pair's.
    """
    top, best = torch.where(owners == of[:, None], scores, -torch.inf).max(dim=1)
    return best, top.isfinite()


@dataclass(frozen=True)
class _Search:
    """Optimises logarithms of candidate maps; `owners` says which pair each candidate is for."""

    config: RegistrationConfig
    how: AffineConfig
    levels: dict[int, Pairs]

    def optimise(
        self, factor: int, owners: torch.Tensor, log: torch.Tensor, step_mm: float, iterations: int
    ) -> torch.Tensor:
        """Adam on the logarithm, with units such that every parameter moves points alike."""
        if iterations == 0:
            return log
        pairs = self.levels[factor].take(owners)
        units = _units(pairs).to(log.device)
        agreement = _Agreement(pairs, self.config)

        def loss(parameters: torch.Tensor) -> torch.Tensor:
            return -agreement.of(parameters * units)

        start = log / torch.where(units > 0, units, 1.0)
        return minimise(start, by_autograd(loss), step_mm, iterations) * units

    def finish(self, owners: torch.Tensor, log: torch.Tensor, done: int) -> torch.Tensor:
        """From the end of the trial to the finest level."""
        step = self.how.step_mm
        for index, factor in enumerate(self.levels):
            if index == 0:
                log = self.optimise(factor, owners, log, step, self.how.iterations[0] - done)
            else:
                iterations = self.how.iterations[self.how.levels.index(factor)]
                log = self.optimise(factor, owners, log, 0.5 * step, iterations)
        return log

    def retry(
        self, which: torch.Tensor, owners: torch.Tensor, log: torch.Tensor, done: int
    ) -> tuple[torch.Tensor, list[bool]]:
        """The best sound ends of all starts of some pairs, and which have one.

        A pair without one keeps its given alignment.
        """
        rows = torch.isin(owners, which)
        owners, ends = owners[rows], self.finish(owners[rows], log[rows], done)
        sound = torch.tensor([not fault for fault in self.faults(owners, ends)])
        scores = self.agreement(list(self.levels)[-1], owners, ends)
        scores = scores.where(sound.to(scores.device), -torch.inf)
        best, fine = _best(scores, owners, which)
        return torch.where(fine[:, None, None], ends[best], 0.0), fine.tolist()

    def agreement(self, factor: int, owners: torch.Tensor, log: torch.Tensor) -> torch.Tensor:
        """Agreement `(B,)` of each candidate."""
        with torch.no_grad():
            return _Agreement(self.levels[factor].take(owners), self.config).of(log)

    def faults(self, owners: torch.Tensor, log: torch.Tensor) -> list[str]:
        """What is wrong with each candidate; empty if nothing."""
        finest = list(self.levels)[-1]
        pairs = self.levels[finest].take(owners)
        matrices = affine_exp(log)
        determinants = torch.linalg.det(matrices)
        found = self.agreement(finest, owners, log)
        given = self.agreement(finest, owners, torch.zeros_like(log))
        overlaps = _overlap(pairs, log)
        # volumes of different parts may share little however they lie
        reachable = torch.maximum(
            _overlap(pairs, torch.zeros_like(log)), _overlap(pairs, _mass_shift(pairs))
        )
        return [
            self._fault(*values)
            for values in zip(
                *(part.tolist() for part in (determinants, overlaps, reachable, found, given)),
                strict=True,
            )
        ]

    def doubts(self, owners: torch.Tensor, log: torch.Tensor) -> list[str]:
        """Which candidates bring nothing together that looks alike; empty where something does."""
        if self.config.similarity != "lncc":
            return [""] * len(log)
        finest = list(self.levels)[-1]
        with torch.no_grad():
            alike = _Agreement(self.levels[finest].take(owners), self.config).alike(log)
        least = self.how.least_correlation
        return [
            ""
            if one >= least
            else f"the volumes do not look alike: local correlation {one:.2f}, {least:g} is needed"
            for one in alike.tolist()
        ]

    def _fault(
        self, determinant: float, overlap: float, reachable: float, found: float, given: float
    ) -> str:
        bound = self.how.max_volume_change
        if not 1 / bound <= determinant <= bound:
            return f"affine map changes volume by a factor of {determinant:.2g}"
        if not overlap >= min(self.how.least_overlap, REACHED * reachable) or overlap == 0:
            return f"affine map leaves an overlap of {overlap:.0%}"
        if not found >= given - SLACK:
            return f"affine similarity fell from {given:.3f} to {found:.3f}"
        return ""


class _Agreement:
    """Agreement `(B,)` of pairs under maps `(B, n, n)`, the mean of both ways.

    One way alone prefers, now and then, a map that leaves a part of the moving volume without a
    counterpart: nothing of the fixed volume asks for it.
    """

    def __init__(self, pairs: Pairs, config: RegistrationConfig) -> None:
        fixed, moving = (pairs.fixed, pairs.fixed_mask), (pairs.moving, pairs.moving_mask)
        self.there = _OneWay(*fixed, pairs.moving, pairs.extent_mm, config)
        self.back = _OneWay(*moving, pairs.fixed, pairs.extent_mm, config)

    def __call__(self, matrix: torch.Tensor, inverse: torch.Tensor) -> torch.Tensor:
        return 0.5 * (self.there(matrix) + self.back(inverse))

    def of(self, log: torch.Tensor) -> torch.Tensor:
        """The same of maps with these logarithms."""
        return self(*_there_and_back(log))

    def alike(self, log: torch.Tensor) -> torch.Tensor:
        """Its local part alone; of shapes, whose windows are mostly flat, in those that are not."""
        matrix, inverse = _there_and_back(log)
        there, back = self.there.moved(matrix), self.back.moved(inverse)
        return 0.5 * (self.there.alike(there) + self.back.alike(back))


def _there_and_back(log: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps with these logarithms, and their inverses."""
    matrix, inverse = affine_exp(torch.cat([log, -log])).chunk(2)
    return matrix, inverse


class _OneWay:
    """Agreement `(B,)` within the fixed mask under maps `(B, n, n)`.

    It is computed on the whole grid, padding and all: a box around the masks of the batch, a fifth
    cheaper, would round each pair's sums as its batch has it, and descent makes millimetres of that
    (decision 0009).
    """

    def __init__(
        self,
        fixed: torch.Tensor,
        mask: torch.Tensor,
        moving: torch.Tensor,
        extent_mm: tuple[float, ...],
        config: RegistrationConfig,
    ) -> None:
        self.moving, self.extent_mm = moving, extent_mm
        self.shape = fixed.shape[2:]
        spacing = [e / n for e, n in zip(extent_mm, self.shape, strict=True)]
        self.points = points_like(self.shape, spacing, fixed.device)
        self.local: Agreement = prepare(config.similarity, fixed, mask, config.window)
        self.whole: GlobalCorrelation | None = None
        if config.similarity == "lncc":
            self.whole = GlobalCorrelation.prepare(fixed, mask)

    def alike(self, moved: torch.Tensor) -> torch.Tensor:
        """Local correlation; a flat window has none, so where most are flat they do not count."""
        assert isinstance(self.local, LocalCorrelation)
        shown = self.local.shown()
        return self.local(moved) / torch.where(shown < MOSTLY_FLAT, shown.clamp(min=FLAT), 1.0)

    def moved(self, matrix: torch.Tensor) -> torch.Tensor:
        """The moving volumes on the grid of the fixed ones."""
        if takes(self.moving):
            from dreamorph.spatial.fused import Looked

            maps = affine_maps(matrix, self.extent_mm)
            corner = [0] * len(self.shape)
            looked: torch.Tensor = Looked.apply(maps, self.moving, corner, list(self.shape))
            return looked
        return sample(self.moving, self.points, self.extent_mm, affine=matrix)

    def __call__(self, matrix: torch.Tensor) -> torch.Tensor:
        moved = self.moved(matrix)
        agreement = self.local(moved)
        if self.whole is not None:
            agreement = agreement + self.whole(moved)
        return agreement


def _starts(
    pairs: Pairs, config: RegistrationConfig, how: AffineConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logarithms of the starts of all pairs, and which pair each is for."""
    shift = _mass_shift(pairs)
    turned, tried = _best_turn(pairs, config, how, shift)
    starts = torch.stack([torch.zeros_like(shift), shift, turned], dim=1)
    wanted = torch.stack([torch.ones_like(tried), torch.ones_like(tried), tried], dim=1)
    return starts[wanted], wanted.nonzero()[:, 0]


def _best_turn(
    pairs: Pairs, config: RegistrationConfig, how: AffineConfig, shift: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The turn of each pair that agrees best on a coarse grid, and where clearly better than none.

    Logarithms `(B, n, n)`, zero where it is not, and bool `(B,)`.
    """
    turns = _turns(len(pairs.shape), how.turns_degrees).to(shift.device)
    clearly = torch.zeros(len(pairs), dtype=torch.bool, device=shift.device)
    found = torch.zeros_like(shift)
    if len(turns) == 0:
        return found, clearly
    move = affine_exp(shift)
    centre = move.clone()
    centre[:, :-1, -1] = _mass_centre(pairs.fixed, pairs.fixed_mask, pairs).double()
    home = torch.linalg.inv(centre)
    # x -> turned about the fixed volume's centre of mass, then shifted to that of the moving one
    candidates = torch.stack([move @ centre @ turn @ home for turn in turns])
    with torch.no_grad():
        agreement = _Agreement(pairs, config)
        plain = torch.maximum(agreement.of(torch.zeros_like(shift)), agreement.of(shift))
        scores = torch.stack([agreement(one, torch.linalg.inv(one)) for one in candidates])
    best = scores.argmax(dim=0)
    rows = torch.arange(len(pairs), device=shift.device)
    clearly = scores[best, rows] > plain + CLEARLY
    if bool(clearly.any()):
        found[clearly] = affine_log(candidates[best, rows][clearly])
    return found, clearly


def _turns(ndim: int, degrees: tuple[float, ...]) -> torch.Tensor:
    """Rotations about each axis, `(K, n, n)` float64; in 2D about the one there is."""
    planes = [(0, 1)] if ndim == 2 else [(1, 2), (2, 0), (0, 1)]
    turns = identity_affine(len(planes) * len(degrees), ndim)
    for index, ((a, b), angle) in enumerate(product(planes, degrees)):
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        turns[index, a, a] = turns[index, b, b] = cos
        turns[index, a, b], turns[index, b, a] = -sin, sin
    return turns


def _overlap(pairs: Pairs, log: torch.Tensor) -> torch.Tensor:
    """Share `(B,)` of either foreground that a map brings into the other's, the smaller one."""
    points = points_like(pairs.shape, pairs.spacing_mm, pairs.fixed.device)

    def share(of: torch.Tensor, within: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        seen = sample(within, points, pairs.extent_mm, padding="zeros", affine=matrix)
        axes = tuple(range(1, seen.dim()))
        return (seen * of).sum(axes) / of.sum(axes).clamp(min=1e-6)

    there = share(pairs.fixed_mask, pairs.moving_mask, affine_exp(log))
    return torch.minimum(there, share(pairs.moving_mask, pairs.fixed_mask, affine_exp(-log)))


def as_given(pairs: Pairs) -> AffineResult:
    """The given alignment; a pair whose contents do not meet under it has failed."""
    eye = identity_affine(len(pairs), len(pairs.shape), pairs.fixed.device)
    meet = _overlap(pairs, torch.zeros_like(eye)) > 0
    reason = "the contents of the volumes do not meet as they lie"
    return AffineResult(eye, tuple("" if one else reason for one in meet.tolist()))


def _units(pairs: Pairs) -> torch.Tensor:
    """How much of each entry of a logarithm moves a point halfway to the border by 1 mm or so."""
    ndim = len(pairs.shape)
    units = torch.ones(ndim + 1, ndim + 1, dtype=torch.float64, device=pairs.fixed.device)
    for axis, edge in enumerate(pairs.extent_mm):
        units[:, axis] = 4.0 / edge
    units[ndim] = 0.0
    return units


def _mass_shift(pairs: Pairs) -> torch.Tensor:
    """Logarithms of the shifts between the centres of mass."""
    size = len(pairs.shape) + 1
    log = torch.zeros(len(pairs), size, size, dtype=torch.float64, device=pairs.fixed.device)
    moving = _mass_centre(pairs.moving, pairs.moving_mask, pairs)
    log[:, :-1, -1] = (moving - _mass_centre(pairs.fixed, pairs.fixed_mask, pairs)).double()
    return log


def _mass_centre(volume: torch.Tensor, mask: torch.Tensor, pairs: Pairs) -> torch.Tensor:
    """Centre `(B, ndim)` in mm of brightness above the darkest."""
    points = points_like(pairs.shape, pairs.spacing_mm, volume.device)
    axes = tuple(range(2, volume.dim()))
    weight = (volume - volume.amin(dim=axes, keepdim=True)) * mask
    return (weight * points).sum(axes) / weight.sum(axes).clamp(min=1e-6)
