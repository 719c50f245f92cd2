"""One pass over a warped volume, compiled: every voxel is finished before the next one is begun."""

from typing import Any

import numpy as np

from dreamorph.compiled import compiled, inlined

#: As many values as a byte has; labels are bytes.
VALUES = 256


@compiled
def fill(
    image: np.ndarray,
    label: np.ndarray,
    mask: np.ndarray,
    n_labels: int,
    to_index: np.ndarray,
    moves: np.ndarray,
    image_out: np.ndarray,
    label_out: np.ndarray,
    mask_out: np.ndarray,
    first: int,
    last: int,
) -> None:
    """Slices `first` to `last` of a warped volume, its label map and its mask, all `(D, H, W)`.

    Args:
        image, label, mask: the volume as it is; float32, bytes, booleans.
        n_labels: larger labels are background.
        to_index: `(3, 4)`, from indices of the output to indices of the input.
        moves: `(d, h, w, 3)` float32 in voxels of the input, on a grid of the same extent; added,
            interpolated linearly.
        image_out, label_out, mask_out: what is filled; zero where the mask comes to half or less.
        first, last: which slices.
    """
    low, high, part = between(label_out.shape[2], moves.shape[2])
    lows, highs, parts = between(label_out.shape[1], moves.shape[1])
    lowest, highest, share = between(label_out.shape[0], moves.shape[0])
    line = np.empty((moves.shape[2], 3), np.float32)
    probability = np.zeros(VALUES, np.float32)
    weights, votes = np.empty(8, np.float32), np.empty(8, np.int64)
    depth, height, width = image.shape
    step_x, step_y, step_z = to_index.astype(np.float32)[:, 2]
    for i in range(first, last):
        for j in range(label_out.shape[1]):
            blend(moves, lowest[i], highest[i], share[i], lows[j], highs[j], parts[j], line)
            start_x = np.float32(to_index[0, 0] * i + to_index[0, 1] * j + to_index[0, 3])
            start_y = np.float32(to_index[1, 0] * i + to_index[1, 1] * j + to_index[1, 3])
            start_z = np.float32(to_index[2, 0] * i + to_index[2, 1] * j + to_index[2, 3])
            for k in range(label_out.shape[2]):
                a, b, t, along = low[k], high[k], part[k], np.float32(k)
                x = start_x + step_x * along + line[a, 0] + t * (line[b, 0] - line[a, 0])
                y = start_y + step_y * along + line[a, 1] + t * (line[b, 1] - line[a, 1])
                z = start_z + step_z * along + line[a, 2] + t * (line[b, 2] - line[a, 2])
                p, q, r = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
                x, y, z = x - np.floor(x), y - np.floor(y), z - np.floor(z)
                if 0 <= p < depth - 1 and 0 <= q < height - 1 and 0 <= r < width - 1:
                    value, most, seen = within(
                        image, label, mask, p, q, r, x, y, z, n_labels, weights, votes, probability
                    )  # fmt: skip
                else:
                    value, most, seen = at_border(
                        image, label, mask, p, q, r, x, y, z, n_labels, weights, votes, probability
                    )  # fmt: skip
                image_out[i, j, k], label_out[i, j, k], mask_out[i, j, k] = value, most, seen


@compiled
def between(fine: int, coarse: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each of `fine` voxels: the coarse ones on both sides, and how far it is from the first."""
    low, high = np.empty(fine, np.int64), np.empty(fine, np.int64)
    share = np.empty(fine, np.float32)
    for k in range(fine):
        at = min(max((k + 0.5) * coarse / fine - 0.5, 0.0), coarse - 1.0)
        low[k] = max(min(int(at), coarse - 2), 0)
        high[k] = min(low[k] + 1, coarse - 1)
        share[k] = at - low[k]
    return low, high, share


@compiled
def blend(
    moves: np.ndarray, i0: int, i1: int, u: float, j0: int, j1: int, v: float, line: np.ndarray
) -> None:
    """The line `(w, 3)` of the moves between four of their lines."""
    one = np.float32(1)
    for k in range(line.shape[0]):
        for c in range(3):
            near = (one - v) * moves[i0, j0, k, c] + v * moves[i0, j1, k, c]
            far = (one - v) * moves[i1, j0, k, c] + v * moves[i1, j1, k, c]
            line[k, c] = (one - u) * near + u * far


@inlined
def within(
    image: np.ndarray,
    label: np.ndarray,
    mask: np.ndarray,
    p: int,
    q: int,
    r: int,
    x: float,
    y: float,
    z: float,
    n_labels: int,
    weights: np.ndarray,
    votes: np.ndarray,
    probability: np.ndarray,
) -> tuple[Any, Any, bool]:
    """Image, label and mask beyond voxel (p, q, r) by shares x, y, z of a voxel, unrolled.

    `weights`, `votes` are room for eight; `probability` is zero, and left so.
    """
    one = np.float32(1)
    a, b, c, d = (one - x) * (one - y), (one - x) * y, x * (one - y), x * y
    a0, a1, b0, b1 = a * (one - z), a * z, b * (one - z), b * z
    c0, c1, d0, d1 = c * (one - z), c * z, d * (one - z), d * z
    whole = (
        mask[p, q, r] & mask[p, q, r + 1] & mask[p, q + 1, r] & mask[p, q + 1, r + 1]
        & mask[p + 1, q, r] & mask[p + 1, q, r + 1]
        & mask[p + 1, q + 1, r] & mask[p + 1, q + 1, r + 1]
    )  # fmt: skip
    if not whole:
        return at_border(
            image, label, mask, p, q, r, x, y, z, n_labels, weights, votes, probability
        )  # fmt: skip
    value = (
        a0 * image[p, q, r] + a1 * image[p, q, r + 1]
        + b0 * image[p, q + 1, r] + b1 * image[p, q + 1, r + 1]
        + c0 * image[p + 1, q, r] + c1 * image[p + 1, q, r + 1]
        + d0 * image[p + 1, q + 1, r] + d1 * image[p + 1, q + 1, r + 1]
    )  # fmt: skip
    l0, l1, l2, l3 = label[p, q, r], label[p, q, r + 1], label[p, q + 1, r], label[p, q + 1, r + 1]
    l4, l5 = label[p + 1, q, r], label[p + 1, q, r + 1]
    l6, l7 = label[p + 1, q + 1, r], label[p + 1, q + 1, r + 1]
    if l0 == l1 == l2 == l3 == l4 == l5 == l6 == l7:
        return value, (l0 if l0 <= n_labels else 0), True
    weights[0], weights[1], weights[2], weights[3] = a0, a1, b0, b1
    weights[4], weights[5], weights[6], weights[7] = c0, c1, d0, d1
    votes[0], votes[1], votes[2], votes[3] = l0, l1, l2, l3
    votes[4], votes[5], votes[6], votes[7] = l4, l5, l6, l7
    return value, most_probable(votes, weights, n_labels, probability), True


@inlined
def at_border(
    image: np.ndarray,
    label: np.ndarray,
    mask: np.ndarray,
    p: int,
    q: int,
    r: int,
    x: float,
    y: float,
    z: float,
    n_labels: int,
    weights: np.ndarray,
    votes: np.ndarray,
    probability: np.ndarray,
) -> tuple[Any, Any, bool]:
    """As `within`, where some of the eight voxels lie beyond the volume or the mask."""
    depth, height, width = image.shape
    one, value, inside = np.float32(1), np.float32(0), np.float32(0)
    for o in range(8):
        a, b, c = p + (o >> 2), q + ((o >> 1) & 1), r + (o & 1)
        weight = (x if o >> 2 else one - x) * (y if (o >> 1) & 1 else one - y)
        weight *= z if o & 1 else one - z
        weights[o], votes[o] = weight, 0
        if 0 <= a < depth and 0 <= b < height and 0 <= c < width:
            votes[o] = label[a, b, c]
            value += weight * image[a, b, c]
            if mask[a, b, c]:
                inside += weight
    if not inside > np.float32(0.5):
        return np.float32(0), 0, False
    return value, most_probable(votes, weights, n_labels, probability), True


@inlined
def most_probable(
    votes: np.ndarray, weights: np.ndarray, n_labels: int, probability: np.ndarray
) -> Any:
    """Of the labels of eight voxels that of the greatest weight, of equal ones the smallest."""
    for o in range(8):
        votes[o] = votes[o] if votes[o] <= n_labels else 0
        probability[votes[o]] += weights[o]
    best = votes[0]
    for o in range(1, 8):
        more = probability[votes[o]] - probability[best]
        if more > 0 or (more == 0 and votes[o] < best):
            best = votes[o]
    for o in range(8):
        probability[votes[o]] = np.float32(0)
    return best
