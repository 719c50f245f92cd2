"""Making dreams: a source, a drawn target, one interpolation."""

import operator
from collections.abc import Container, Iterator, Sequence

import torch

from dreamorph.dreaming.dreams import Dreams, Recipe
from dreamorph.errors import DreamError
from dreamorph.prior import DeformationPrior, Draw
from dreamorph.registration.batching import batch_size, in_batches
from dreamorph.spatial.affine import with_rigid_part
from dreamorph.spatial.grid import covered, sample
from dreamorph.spatial.transform import (
    MOST_LABELS,
    SpatialTransform,
    rank_labels,
    whole_labels,
)

#: Counts up whenever the same recipe would give another dream.
VERSION = 5


class Dreamer:
    """Warps volumes of the prior's members towards subjects drawn from the prior.

    Member i lies at `T_i . exp(w_i)` in the common space, a drawn subject s at `T_s . exp(w_s)`.
    The dream pulls the source through `T_i . exp(w_i - w_s) . T_s^-1`, image and label together, in
    one interpolation of the original (Hauberg et al., AISTATS 2016, in 3D). Of T_s the size and
    stretch are drawn; its rotation and place are those of T_i, since how somebody lay in the
    scanner is not anatomy.
    """

    def __init__(self, prior: DeformationPrior, scale: float = 1.0) -> None:
        self.prior = prior
        self.scale = scale

    def dream(
        self,
        volumes: torch.Tensor,
        labels: torch.Tensor,
        n: int,
        generator: torch.Generator | None = None,
        members: Sequence[int] | None = None,
        masks: torch.Tensor | None = None,
    ) -> Dreams:
        """Make `n` dreams of random sources, each within its source's class.

        Volumes lie on the grid that the prior was learned on, however finely sampled: a voxel
        measures `prior.extent_mm / shape`. Where a dream shows nothing of its source, beyond the
        grid or the mask, image and label are 0, whatever 0 means there: of CT in Hounsfield units
        it is water, and labels 5, 6, 7 come back as 0, 5, 6, 7. `Dreams.masks` tells where.

        Args:
            volumes: `(N, 1, *shape)` float, finite, the prior's members in their order, or those
                named.
            labels: `(N, 1, *shape)` whole numbers, at most 256 different ones; zeros where there
                are none.
            n: how many.
            generator: source of randomness, on the CPU.
            members: which member of the prior each volume is, by position; None is the first N.
            masks: `(N, 1, *shape)`, true, or more than a half, where the volumes have content;
                None is everywhere.

        Returns:
            Dreams on the device of `volumes`.

        Raises:
            DreamError: shapes do not fit each other or the prior, volumes are not finite, labels
                are not whole or too many, or a volume's class is unknown to the prior.
        """
        members = self._members(volumes, labels, members, masks)
        drawn = list(self.drawn(n, members, generator))
        recipes = [recipe for recipe, _ in drawn]
        draws = [draw for _, draw in drawn]
        return self._made(volumes, labels, recipes, draws, members, masks)

    def recipes(
        self, n: int, members: Sequence[int], generator: torch.Generator | None = None
    ) -> list[Recipe]:
        """Draw `n` recipes over the given members of the prior, classes in turn.

        Sources of a class come up equally often, give or take one.
        """
        return [recipe for recipe, _ in self.drawn(n, members, generator)]

    def drawn(
        self, n: int, members: Sequence[int], generator: torch.Generator | None = None
    ) -> Iterator[tuple[Recipe, Draw]]:
        """As `recipes`, each with what was drawn for it, one after the other: fields are large."""
        self._check(n, members)
        if generator is not None and not isinstance(generator, torch.Generator):
            raise DreamError(
                f"expected a torch.Generator, got {generator!r}: torch.Generator().manual_seed(0)"
            )
        seeds = torch.randint(2**31 - 1, (n,), generator=generator)
        sources = self._balanced_sources(n, members, generator)
        for member, seed in zip(sources, seeds.tolist(), strict=True):
            yield self._recipe(member, seed)

    def replay(
        self,
        volumes: torch.Tensor,
        labels: torch.Tensor,
        recipes: Sequence[Recipe],
        members: Sequence[int] | None = None,
        masks: torch.Tensor | None = None,
    ) -> Dreams:
        """Make the dreams of given recipes; arguments as for `dream`.

        A slice at a time: the probabilities of all labels of all dreams may not fit in memory.
        """
        members = self._members(volumes, labels, members, masks)
        return self._made(volumes, labels, recipes, None, members, masks)

    def transforms(
        self,
        recipes: Sequence[Recipe],
        shape: Sequence[int],
        draws: Sequence[Draw] | None = None,
    ) -> SpatialTransform:
        """Maps from dream to source points, on the CPU; `draws` are those of the recipes."""
        velocities, before, after = [], [], []
        known = {name: k for k, name in enumerate(self.prior.members)}
        for row, recipe in enumerate(recipes):
            member = known[recipe.source]
            draw = draws[row] if draws else self._draw(recipe)
            velocities.append(self.prior.fields[member] - draw.field)
            own = self.prior.affines[member]
            before.append(torch.linalg.inv(with_rigid_part(draw.affine, own)))
            after.append(own)
        extent = self.prior.extent_mm
        spacing = tuple(e / n for e, n in zip(extent, shape, strict=True))
        return SpatialTransform(
            torch.stack(before), torch.stack(velocities), torch.stack(after), tuple(shape), spacing
        )

    def _made(
        self,
        volumes: torch.Tensor,
        labels: torch.Tensor,
        recipes: Sequence[Recipe],
        draws: Sequence[Draw] | None,
        members: Sequence[int],
        masks: torch.Tensor | None,
    ) -> Dreams:
        """The dreams of recipes, drawn already or not."""
        labels, kind = _whole(labels), labels.dtype
        self._check(len(recipes), members)
        rows = {self.prior.members[m]: row for row, m in enumerate(members)}
        self._check_recipes(recipes, rows)
        index = torch.tensor([rows[r.source] for r in recipes], device=volumes.device)
        transforms = self.transforms(recipes, volumes.shape[2:], draws).to(volumes.device)
        least, largest = int(labels.min()), int(labels.max())
        kind = torch.uint8 if least >= 0 and largest <= 255 else kind
        most = min(MOST_LABELS, largest - least)

        def work(part: slice) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            chosen, maps = index[part], transforms[part]
            values, ranks = _ranked(labels[chosen])
            points = maps.points()
            images, dreamed = maps.warp_with_labels(volumes[chosen], ranks, len(values) - 1, points)
            inside = covered(points, maps.shape, maps.extent_mm)
            if masks is not None:
                content = (masks[chosen] > 0.5).to(images.dtype)
                inside *= sample(content, points, maps.extent_mm)
            seen = inside > 0.5
            shown = values.to(kind)[dreamed.long()]
            return torch.where(seen, images, 0), torch.where(seen, shown, 0), seen

        size = batch_size(volumes[0].numel(), volumes.device, n_labels=most)
        parts = in_batches(len(recipes), size, work)
        images, dreamed, seen = (torch.cat(part) for part in zip(*parts, strict=True))
        return Dreams(images, dreamed, seen, transforms, tuple(recipes), index.cpu())

    def _members(
        self,
        volumes: torch.Tensor,
        labels: torch.Tensor,
        members: Sequence[int] | None,
        masks: torch.Tensor | None,
    ) -> list[int]:
        """Which members of the prior the volumes are, if all that was given fits together."""
        if not isinstance(labels, torch.Tensor):
            raise DreamError(
                f"expected labels as a tensor, got {type(labels).__name__}: where there are none,"
                " give zeros, torch.zeros_like(volumes)"
            )
        members = list(range(len(volumes))) if members is None else list(members)
        if volumes.shape != labels.shape or len(members) != len(volumes):
            raise DreamError(
                f"volumes {tuple(volumes.shape)}, labels {tuple(labels.shape)} and "
                f"{len(members)} members must agree"
            )
        if masks is not None and masks.shape != volumes.shape:
            raise DreamError(
                f"masks {tuple(masks.shape)} must have the shape of volumes, {tuple(volumes.shape)}"
            )
        self._check(1, members)
        axes = len(self.prior.extent_mm)
        if volumes.dim() != axes + 2 or volumes.shape[1] != 1:
            raise DreamError(
                f"expected volumes (N, 1, *shape) with the prior's {axes} axes, got"
                f" {tuple(volumes.shape)}"
            )
        # the range makes no copy of the volumes, and is not finite where any value is not
        if not bool(torch.isfinite(torch.stack(torch.aminmax(volumes))).all()):
            raise DreamError(
                "volumes hold values that are not finite: replace them, also outside the masks"
            )
        return members

    def _check(self, n: int, members: Sequence[int]) -> None:
        known = len(self.prior.members)
        strange = [member for member in members if not _is_position(member, known)]
        if n < 1 or not members or strange:
            first = f", member {strange[0]!r} is none of them" if strange else ""
            raise DreamError(
                f"expected at least one dream, of volumes of the prior's {known} members, got {n}"
                f" of {len(members)} volumes{first}: give the positions of the members that they"
                " are, counted from 0"
            )

    def _check_recipes(self, recipes: Sequence[Recipe], known: Container[str]) -> None:
        others = {r.prior for r in recipes} - {self.prior.fingerprint}
        if others:
            raise DreamError(
                f"recipes of the prior {sorted(others)[0]} cannot be replayed from the prior"
                f" {self.prior.fingerprint}: the dreams would be others"
            )
        missing = [r.source for r in recipes if r.source not in known]
        if missing:
            raise DreamError(f"the volume {missing[0]}, the source of a recipe, was not given")

    def _recipe(self, member: int, seed: int) -> tuple[Recipe, Draw]:
        cls = self.prior.classes[member]
        if cls not in self.prior.class_names:
            raise DreamError(
                f"{self.prior.members[member]} has class {cls!r}, expected one of "
                f"{self.prior.class_names}: only volumes of a known class can be dreamed"
            )
        draw = self.prior.draw(seed, cls, self.scale)
        recipe = Recipe(
            dream=f"dream_{seed:010d}",
            source=self.prior.members[member],
            source_subject=self.prior.subjects[member],
            cls=cls,
            seed=seed,
            prior=self.prior.fingerprint,
            scale=self.scale,
            coefficients=self.prior.coefficients(draw.field, cls),
        )
        return recipe, draw

    def _draw(self, recipe: Recipe) -> Draw:
        return self.prior.draw(recipe.seed, recipe.cls, recipe.scale)

    def _balanced_sources(
        self, n: int, members: Sequence[int], generator: torch.Generator | None
    ) -> list[int]:
        """Members in random order within their class, classes one after the other."""
        by_class: dict[str | None, list[int]] = {}
        for member in members:
            by_class.setdefault(self.prior.classes[member], []).append(member)
        queues: dict[str | None, list[int]] = {cls: [] for cls in by_class}
        order, chosen = list(by_class), []
        for k in range(n):
            cls = order[k % len(order)]
            if not queues[cls]:
                own = by_class[cls]
                queues[cls] = [own[j] for j in torch.randperm(len(own), generator=generator)]
            chosen.append(queues[cls].pop())
        return chosen


def _ranked(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As `rank_labels`; raises DreamError where they are no labels."""
    try:
        return rank_labels(labels)
    except ValueError as error:
        raise DreamError(str(error)) from error


def _whole(labels: torch.Tensor) -> torch.Tensor:
    """As `whole_labels`; raises DreamError where they are no labels."""
    try:
        return whole_labels(labels)
    except ValueError as error:
        raise DreamError(str(error)) from error


def _is_position(member: object, count: int) -> bool:
    """Whether it is a whole number from 0 to below `count`; tensors and NumPy have theirs."""
    try:
        return 0 <= operator.index(member) < count  # type: ignore[arg-type]
    except TypeError:
        return False
