"""Linear interpolation of volumes at points and its gradients, compiled for a CPU.

Some hundred points at a time: first where they lie, then channel by channel what is there, in loops
without a branch, which the compiler turns into instructions for many points at once.

Points are in units of `grid_sample` with `align_corners=False`, `(B or 1, 3, N)` with the last axis
first; what lies beyond the outermost voxels has their value.
"""

import numpy as np

from dreamorph.compiled import compiled, vectorised

#: Points at a time, so that what is noted of them stays near.
BLOCK = 256


@compiled
def interpolate(
    volume: np.ndarray, points: np.ndarray, out: np.ndarray, first: int, last: int
) -> None:
    """Values `(B, C, N)` of volumes `(B, C, D, H, W)` at the points from `first` to `last`."""
    shape, flat = volume.shape[2:], volume.reshape(volume.shape[0], volume.shape[1], -1)
    index, share, slope = _room()
    found, steps = np.empty((8, BLOCK), np.float32), _steps(shape)
    for b in range(volume.shape[0]):
        row = points[min(b, points.shape[0] - 1)]
        for start in range(first, last, BLOCK):
            stop = min(start + BLOCK, last)
            _place(row, start, stop, shape, index, share, slope)
            for c in range(volume.shape[1]):
                _look(flat[b, c], index[: stop - start], steps, found)
                _mix(found, share, out[b, c, start:stop])


@compiled
def flow(
    stretch: np.ndarray, points: np.ndarray, out: np.ndarray, steps: int, first: int, last: int
) -> None:
    """Where the points from `first` to `last` come to, `(B, 3, N)`: see `interpolation.follow`.

    `stretch` `(B, 3, D, H, W)` is the velocity times the length of a step, in the points' units.
    """
    shape, flat = stretch.shape[2:], stretch.reshape(stretch.shape[0], 3, -1)
    index, share, slope = _room()
    found, around = np.empty((8, BLOCK), np.float32), _steps(shape)
    looks = np.empty((4, 3, BLOCK), np.float32)
    at, there = np.zeros((3, BLOCK), np.float32), np.empty((3, BLOCK), np.float32)
    for b in range(stretch.shape[0]):
        row = points[min(b, points.shape[0] - 1)]
        for start in range(first, last, BLOCK):
            count = min(BLOCK, last - start)
            at[:, :count] = row[:, start : start + count]
            for _ in range(steps):
                there[:] = at
                for k in range(4):
                    _place(there, 0, count, shape, index, share, slope)
                    for c in range(3):
                        _look(flat[b, c], index[:count], around, found)
                        _mix(found, share, looks[k, c, :count])
                    if k < 3:
                        _ahead(at, looks[k], np.float32(0.5 if k < 2 else 1.0), there)
                _arrive(at, looks)
            out[b, :, start : start + count] = at[:, :count]


@vectorised
def _ahead(at: np.ndarray, look: np.ndarray, share: np.float32, there: np.ndarray) -> None:
    """Where a block of points is after a share of a step along what it saw."""
    for axis in range(3):
        for n in range(BLOCK):
            there[axis, n] = at[axis, n] + share * look[axis, n]


@vectorised
def _arrive(at: np.ndarray, looks: np.ndarray) -> None:
    """Moves a block of points by a whole step, of the four looks `(4, 3, BLOCK)`."""
    two, sixth = np.float32(2), np.float32(1 / 6)
    for axis in range(3):
        for n in range(BLOCK):
            middle = two * (looks[1, axis, n] + looks[2, axis, n])
            at[axis, n] += sixth * (looks[0, axis, n] + middle + looks[3, axis, n])


@compiled
def differentiate(
    volume: np.ndarray,
    points: np.ndarray,
    gradient: np.ndarray,
    out: np.ndarray,
    first: int,
    last: int,
) -> None:
    """By the points from `first` to `last`, `(B, 3, N)`, from the gradient by the values."""
    shape, flat = volume.shape[2:], volume.reshape(volume.shape[0], volume.shape[1], -1)
    index, share, slope = _room()
    found, made = np.empty((8, BLOCK), np.float32), np.empty((3, BLOCK), np.float32)
    steps = _steps(shape)
    for b in range(volume.shape[0]):
        row = points[min(b, points.shape[0] - 1)]
        for start in range(first, last, BLOCK):
            stop = min(start + BLOCK, last)
            _place(row, start, stop, shape, index, share, slope)
            made[:] = 0
            for c in range(volume.shape[1]):
                _look(flat[b, c], index[: stop - start], steps, found)
                _slopes(found, share, gradient[b, c, start:stop], made)
            for axis in range(3):
                for n in range(stop - start):
                    out[b, axis, start + n] = made[axis, n] * slope[axis, n]


@compiled
def scatter(
    points: np.ndarray, gradient: np.ndarray, out: np.ndarray, first: int, last: int
) -> None:
    """By the volumes `first` to `last`: added to `out` `(B, C, D, H, W)`."""
    shape, flat = out.shape[2:], out.reshape(out.shape[0], out.shape[1], -1)
    index, share, slope = _room()
    steps = _steps(shape)
    for b in range(first, last):
        row = points[min(b, points.shape[0] - 1)]
        for start in range(0, points.shape[2], BLOCK):
            stop = min(start + BLOCK, points.shape[2])
            _place(row, start, stop, shape, index, share, slope)
            for c in range(out.shape[1]):
                _spread(flat[b, c], index, share, steps, gradient[b, c, start:stop])


@compiled
def _room() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For a block of points: the voxel before each, how far each is from it in voxels, and how many
    voxels a unit is along each axis, the last first; none beyond the border.
    """
    return (
        np.empty(BLOCK, np.uint32),
        np.empty((3, BLOCK), np.float32),
        np.empty((3, BLOCK), np.float32),
    )


@compiled
def _steps(shape: tuple[int, int, int]) -> np.ndarray:
    """To the next voxel along depth, height and width; none along an axis of one."""
    depth, height, width = shape
    return np.array(
        [
            height * width if depth > 1 else 0,
            width if height > 1 else 0,
            1 if width > 1 else 0,
        ],
        dtype=np.uint32,
    )


@vectorised
def _place(
    points: np.ndarray,
    start: int,
    stop: int,
    shape: tuple[int, int, int],
    index: np.ndarray,
    share: np.ndarray,
    slope: np.ndarray,
) -> None:
    """Where points `(3, N)` lie, from `start` to `stop`: see `_room`.

    What is not a number lies in the first voxel.
    """
    one, half, zero = np.float32(1), np.float32(0.5), np.float32(0)
    for axis in range(3):
        size, last = np.float32(shape[axis]), np.float32(shape[axis] - 1)
        most = np.int32(max(shape[axis] - 2, 0))
        for n in range(stop - start):
            at = ((points[2 - axis, start + n] + one) * size - one) * half
            slope[2 - axis, n] = size * half if (at > zero) & (at < last) else zero
            at = at if at > zero else zero
            at = at if at < last else last
            below = min(np.int32(at), most)
            share[axis, n] = at - np.float32(below)
            before = index[n] * np.uint32(shape[axis]) if axis else np.uint32(0)
            index[n] = before + np.uint32(below)


@compiled
def _look(values: np.ndarray, index: np.ndarray, steps: np.ndarray, found: np.ndarray) -> None:
    """The eight voxels of a channel around each point of a block, `(8, BLOCK)`.

    Apart from what is made of them: only what lies side by side is computed side by side.
    """
    x, y, z = steps[0], steps[1], steps[2]
    for n in range(index.shape[0]):
        a = index[n]
        b, c = a + y, a + x
        d = c + y
        found[0, n], found[1, n] = values[a], values[a + z]
        found[2, n], found[3, n] = values[b], values[b + z]
        found[4, n], found[5, n] = values[c], values[c + z]
        found[6, n], found[7, n] = values[d], values[d + z]


@vectorised
def _mix(found: np.ndarray, share: np.ndarray, out: np.ndarray) -> None:
    """Values of a channel at a block of points, of the eight around each."""
    for n in range(out.shape[0]):
        u, v, w = share[0, n], share[1, n], share[2, n]
        near = found[0, n] + w * (found[1, n] - found[0, n])
        side = found[2, n] + w * (found[3, n] - found[2, n])
        far = found[4, n] + w * (found[5, n] - found[4, n])
        both = found[6, n] + w * (found[7, n] - found[6, n])
        front, back = near + v * (side - near), far + v * (both - far)
        out[n] = front + u * (back - front)


@vectorised
def _slopes(found: np.ndarray, share: np.ndarray, gradient: np.ndarray, out: np.ndarray) -> None:
    """Adds the gradient by a block of points `(3, BLOCK)` in voxels, the last axis first."""
    for n in range(gradient.shape[0]):
        u, v, w = share[0, n], share[1, n], share[2, n]
        step_near, step_side = found[1, n] - found[0, n], found[3, n] - found[2, n]
        step_far, step_both = found[5, n] - found[4, n], found[7, n] - found[6, n]
        near, side = found[0, n] + w * step_near, found[2, n] + w * step_side
        far, both = found[4, n] + w * step_far, found[6, n] + w * step_both
        front, back = near + v * (side - near), far + v * (both - far)
        step_front = step_near + v * (step_side - step_near)
        step_back = step_far + v * (step_both - step_far)
        aside, beyond = side - near, both - far
        out[0, n] += gradient[n] * (step_front + u * (step_back - step_front))
        out[1, n] += gradient[n] * (aside + u * (beyond - aside))
        out[2, n] += gradient[n] * (back - front)


@compiled
def _spread(
    values: np.ndarray,
    index: np.ndarray,
    share: np.ndarray,
    steps: np.ndarray,
    gradient: np.ndarray,
) -> None:
    """Gives a block of gradients back to the eight voxels around each point."""
    x, y, z = steps[0], steps[1], steps[2]
    one = np.float32(1)
    for n in range(gradient.shape[0]):
        a = index[n]
        b, c = a + y, a + x
        d = c + y
        u, v, w = share[0, n], share[1, n], share[2, n]
        front, back = (one - u) * gradient[n], u * gradient[n]
        near, side, far, both = (one - v) * front, v * front, (one - v) * back, v * back
        values[a] += (one - w) * near
        values[a + z] += w * near
        values[b] += (one - w) * side
        values[b + z] += w * side
        values[c] += (one - w) * far
        values[c + z] += w * far
        values[d] += (one - w) * both
        values[d + z] += w * both
