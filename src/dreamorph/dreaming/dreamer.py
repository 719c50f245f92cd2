"""Making dreams: a source, a drawn target, one interpolation."""

from collections.abc import Container, Iterator, Sequence

import torch

from dreamorph.dreaming.dreams import Dreams, Recipe
from dreamorph.errors import DreamError
from dreamorph.prior import DeformationPrior, Draw
from dreamorph.registration.batching import batch_size, in_batches
from dreamorph.spatial.affine import with_rigid_part
from dreamorph.spatial.grid import covered, sample
from dreamorph.spatial.transform import MOST_LABELS, SpatialTransform, rank_labels

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

        Args:
            volumes: `(N, 1, *shape)` float, the prior's members in their order, or those named.
            labels: `(N, 1, *shape)` integers, at most 256 different ones.
            n: how many.
            generator: source of randomness, on the CPU.
            members: which member of the prior each volume is; None is the first N.
            masks: `(N, 1, *shape)`, where the volumes have content; None is everywhere.

        Returns:
            Dreams on the device of `volumes`.

        Raises:
            DreamError: shapes do not fit, there are more labels, or a volume's class is unknown to
                the prior.
        """
        members = list(range(len(volumes))) if members is None else list(members)
        drawn = list(self._drawn(n, members, generator))
        recipes = [recipe for recipe, _ in drawn]
        draws = [draw for _, draw in drawn]
        return self._made(volumes, labels, recipes, draws, members, masks)

    def recipes(
        self, n: int, members: Sequence[int], generator: torch.Generator | None = None
    ) -> list[Recipe]:
        """Draw `n` recipes over the given members of the prior, classes in turn.

        Sources of a class come up equally often, give or take one.
        """
        return [recipe for recipe, _ in self._drawn(n, members, generator)]

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
        members = list(range(len(volumes))) if members is None else list(members)
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
        if volumes.shape != labels.shape or len(members) != len(volumes):
            raise DreamError(
                f"volumes {tuple(volumes.shape)}, labels {tuple(labels.shape)} and "
                f"{len(members)} members must agree"
            )
        self._check(len(recipes), members)
        rows = {self.prior.members[m]: row for row, m in enumerate(members)}
        self._check_recipes(recipes, rows)
        index = torch.tensor([rows[r.source] for r in recipes], device=volumes.device)
        transforms = self.transforms(recipes, volumes.shape[2:], draws).to(volumes.device)
        kind, most = _type_of(labels), min(MOST_LABELS, int(labels.max()) - int(labels.min()))

        def work(part: slice) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            chosen, maps = index[part], transforms[part]
            values, ranks = _ranked(labels[chosen])
            points = maps.points()
            images, dreamed = maps.warp_with_labels(volumes[chosen], ranks, len(values) - 1, points)
            inside = covered(points, maps.shape, maps.extent_mm)
            if masks is not None:
                inside *= sample(masks[chosen].to(images.dtype), points, maps.extent_mm)
            seen = inside > 0.5
            return images * seen, values.to(kind)[dreamed.long()] * seen, seen

        size = batch_size(volumes[0].numel(), volumes.device, n_labels=most)
        parts = in_batches(len(recipes), size, work)
        images, dreamed, seen = (torch.cat(part) for part in zip(*parts, strict=True))
        return Dreams(images, dreamed, seen, transforms, tuple(recipes), index.cpu())

    def _check(self, n: int, members: Sequence[int]) -> None:
        known = len(self.prior.members)
        if n < 1 or not members or not 0 <= min(members) <= max(members) < known:
            raise DreamError(
                f"expected at least one dream, of volumes of the prior's {known} members, got {n}"
                f" of {len(members)} volumes: name the members that they are"
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

    def _drawn(
        self, n: int, members: Sequence[int], generator: torch.Generator | None
    ) -> Iterator[tuple[Recipe, Draw]]:
        """Recipes and what was drawn for them, one after the other: fields are large."""
        self._check(n, members)
        seeds = torch.randint(2**31 - 1, (n,), generator=generator)
        sources = self._balanced_sources(n, members, generator)
        for member, seed in zip(sources, seeds.tolist(), strict=True):
            yield self._recipe(member, seed)

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
    """As `rank_labels`. Raises DreamError where they are more than one byte can tell apart."""
    values, ranks = rank_labels(labels)
    if len(values) > MOST_LABELS:
        raise DreamError(
            f"expected at most {MOST_LABELS} labels, got {len(values)} values: is it an image?"
        )
    return values, ranks


def _type_of(labels: torch.Tensor) -> torch.dtype:
    """One byte where it holds the labels, else their own type."""
    return torch.uint8 if int(labels.min()) >= 0 and int(labels.max()) <= 255 else labels.dtype
