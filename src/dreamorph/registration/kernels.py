"""Triton programs that compare and judge 3D volumes and fields on a GPU.

Volumes and fields are contiguous and float32, the pairs of a batch first. A program takes `BLOCK`
places of one pair, or of one component of its field.
"""

# mypy: ignore-errors
# ruff: noqa: N803

import triton
import triton.language as tl

SIZES = ["depth", "height", "width"]
WINDOWS = [*SIZES, "windows_z", "windows_y", "windows_x"]


@triton.jit(do_not_specialize=WINDOWS)
def moments(
    moved, held, counts, planes, depth, height, width, windows_z, windows_y, windows_x,
    WINDOW: tl.constexpr, STRIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sums over windows of each plane of m w, m m w and m f: `(B, 3, depth, *windows)`.

    `moved` m, `counts` w and `held` f, fixed volumes times w, are `(B, *shape)`.
    """
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    number = depth * windows_y * windows_x
    mask = place < number
    base = tl.program_id(1).to(tl.int64) * depth * height * width
    x = (place % windows_x) * STRIDE + (STRIDE - 1) // 2 - WINDOW // 2
    y = ((place // windows_x) % windows_y) * STRIDE + (STRIDE - 1) // 2 - WINDOW // 2
    z = place // (windows_x * windows_y)
    mean = tl.zeros([BLOCK], tl.float32)
    square = tl.zeros([BLOCK], tl.float32)
    product = tl.zeros([BLOCK], tl.float32)
    for j in range(WINDOW):
        row = (z * height + y + j) * width
        here = mask & (y + j >= 0) & (y + j < height)
        for i in tl.static_range(WINDOW):
            there = base + row + x + i
            inside = here & (x + i >= 0) & (x + i < width)
            m = tl.load(moved + there, inside, 0.0)
            w = m * tl.load(counts + there, inside, 0.0)
            mean += w
            square += w * m
            product += m * tl.load(held + there, inside, 0.0)
    out = planes + tl.program_id(1).to(tl.int64) * 3 * number + place
    tl.store(out, mean, mask)
    tl.store(out + number, square, mask)
    tl.store(out + 2 * number, product, mask)


@triton.jit(do_not_specialize=WINDOWS)
def correlate(
    planes, share, means, factors, value, by, flat, granted, depth, height, width,
    windows_z, windows_y, windows_x,
    WINDOW: tl.constexpr, STRIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Adds up local correlations; their gradients by sums of m w, m m w (times -2) and m f."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    plane = windows_y * windows_x
    number, count = depth * plane, windows_z * plane
    mask = place < count
    z = (place // plane) * STRIDE + (STRIDE - 1) // 2 - WINDOW // 2
    source = planes + tl.program_id(1).to(tl.int64) * 3 * number + place % plane
    mean = tl.zeros([BLOCK], tl.float32)
    square = tl.zeros([BLOCK], tl.float32)
    product = tl.zeros([BLOCK], tl.float32)
    for k in tl.static_range(WINDOW):
        inside = mask & (z + k >= 0) & (z + k < depth)
        there = source + (z + k) * plane
        mean += tl.load(there, inside, 0.0)
        square += tl.load(there + number, inside, 0.0)
        product += tl.load(there + 2 * number, inside, 0.0)
    there = tl.program_id(1).to(tl.int64) * count + place
    part = tl.load(share + there, mask, 0.0) / (WINDOW * WINDOW * WINDOW)
    fixed = tl.load(means + there, mask, 0.0)
    mean *= part
    scale = tl.rsqrt(tl.maximum(square * part - mean * mean, 0.0) + flat)
    found = (product * part - mean * fixed + granted) * scale
    factor = tl.load(factors + there, mask, 0.0)
    tl.atomic_add(value + tl.program_id(1), tl.sum(found * factor), sem="relaxed")
    by_product = scale * factor
    by_square = found * scale * by_product
    by_mean = mean * by_square - by_product * fixed
    out = by + tl.program_id(1).to(tl.int64) * 3 * count + place
    tl.store(out, by_mean * part, mask)
    tl.store(out + count, by_square * part, mask)
    tl.store(out + 2 * count, by_product * part, mask)


@triton.jit
def _first_window(at, WINDOW: tl.constexpr, STRIDE: tl.constexpr):
    """The first window that holds a voxel, or one before it."""
    return (at - (STRIDE - 1) // 2 + WINDOW // 2 + STRIDE * WINDOW) // STRIDE - (
        WINDOW + (WINDOW - 1) // STRIDE
    )


@triton.jit(do_not_specialize=WINDOWS)
def spread(
    by, planes, depth, height, width, windows_z, windows_y, windows_x,
    WINDOW: tl.constexpr, STRIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The transpose of the sums over planes, `(B, 3, *windows)` to `(B, 3, depth, *windows)`."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    plane = windows_y * windows_x
    number, count = depth * plane, windows_z * plane
    mask = place < number
    z = place // plane
    source = by + tl.program_id(1).to(tl.int64) * 3 * count + place % plane
    a = tl.zeros([BLOCK], tl.float32)
    b = tl.zeros([BLOCK], tl.float32)
    c = tl.zeros([BLOCK], tl.float32)
    first = _first_window(z, WINDOW, STRIDE)
    for k in tl.static_range((WINDOW - 1) // STRIDE + 1):
        window = first + k
        off = window * STRIDE + (STRIDE - 1) // 2 - z
        inside = mask & (window >= 0) & (window < windows_z)
        inside = inside & (off <= WINDOW // 2) & (off >= -(WINDOW // 2))
        there = source + window * plane
        a += tl.load(there, inside, 0.0)
        b += tl.load(there + count, inside, 0.0)
        c += tl.load(there + 2 * count, inside, 0.0)
    out = planes + tl.program_id(1).to(tl.int64) * 3 * number + place
    tl.store(out, a, mask)
    tl.store(out + number, b, mask)
    tl.store(out + 2 * number, c, mask)


@triton.jit(do_not_specialize=WINDOWS)
def correlate_back(
    planes, moved, held, counts, given, made, depth, height, width,
    windows_z, windows_y, windows_x,
    WINDOW: tl.constexpr, STRIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradient by the moved volumes; `given` `(B,)` is that by the correlations."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    size = depth * height * width
    mask = place < size
    x, y, z = place % width, (place // width) % height, place // (width * height)
    plane = windows_y * windows_x
    number = depth * plane
    source = planes + tl.program_id(1).to(tl.int64) * 3 * number + z * plane
    a = tl.zeros([BLOCK], tl.float32)
    b = tl.zeros([BLOCK], tl.float32)
    c = tl.zeros([BLOCK], tl.float32)
    first_x = _first_window(x, WINDOW, STRIDE)
    first_y = _first_window(y, WINDOW, STRIDE)
    for j in range((WINDOW - 1) // STRIDE + 1):
        row = first_y + j
        off = row * STRIDE + (STRIDE - 1) // 2 - y
        here = mask & (row >= 0) & (row < windows_y)
        here = here & (off <= WINDOW // 2) & (off >= -(WINDOW // 2))
        for i in tl.static_range((WINDOW - 1) // STRIDE + 1):
            column = first_x + i
            off_x = column * STRIDE + (STRIDE - 1) // 2 - x
            inside = here & (column >= 0) & (column < windows_x)
            inside = inside & (off_x <= WINDOW // 2) & (off_x >= -(WINDOW // 2))
            there = source + row * windows_x + column
            a += tl.load(there, inside, 0.0)
            b += tl.load(there + number, inside, 0.0)
            c += tl.load(there + 2 * number, inside, 0.0)
    there = tl.program_id(1).to(tl.int64) * size + place
    m = tl.load(moved + there, mask, 0.0)
    w = tl.load(counts + there, mask, 0.0)
    f = tl.load(held + there, mask, 0.0)
    by = tl.load(given + tl.program_id(1)) * ((a - b * m) * w + c * f)
    tl.store(made + there, by, mask)


@triton.jit
def _bend(v, a, b, aa, bb, n, at):
    """Products of a line with the squared first and second differences, without their weights.

    `v` at a place, `b` and `bb` one and two voxels before it, `a` and `aa` after it.
    """
    first = tl.where(at > 0, v - b, 0.0) + tl.where(at < n - 1, v - a, 0.0)
    second = tl.where((at > 0) & (at < n - 1), -2 * (b - 2 * v + a), 0.0)
    second += tl.where(at > 1, bb - 2 * b + v, 0.0)
    second += tl.where(at < n - 2, v - 2 * a + aa, 0.0)
    return first, second


@triton.jit
def _twist(v, a_n, b_n, n_a, n_b, aa, ab, ba, bb, before_a, after_a, before_b, after_b):
    """The same for first differences along two axes, of a place and its eight neighbours.

    `a_n` and `b_n` lie before and after it along one axis, `n_a` and `n_b` along the other one;
    `before_` and `after_` are one where there are such neighbours.
    """
    middle = before_a + after_a
    here = middle * v - before_a * a_n - after_a * b_n
    low = middle * n_a - before_a * aa - after_a * ba
    high = middle * n_b - before_a * ab - after_a * bb
    return (before_b + after_b) * here - before_b * low - after_b * high


@triton.jit(do_not_specialize=[*SIZES, "bendings"])
def roughness(
    velocity, weights, bending, bendings, share, total, depth, height, width, BLOCK: tl.constexpr
):  # fmt: skip
    """Adds the gradient of the roughness of velocities, times `share` `(B,)`, to `total`.

    `weights` are of first differences along z, y, x, of second ones, and of those along z and y, z
    and x, y and x; the latter six are times `bending`, of which there are `bendings`.
    """
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    count = depth * height * width
    mask = place < count
    channel = tl.program_id(1)
    x, y, z = place % width, (place // width) % height, place // (width * height)
    up = width * height
    here = velocity + channel.to(tl.int64) * count + place
    # neighbours that there are
    xl, xh = mask & (x > 0), mask & (x < width - 1)
    yl, yh = mask & (y > 0), mask & (y < height - 1)
    zl, zh = mask & (z > 0), mask & (z < depth - 1)
    v = tl.load(here, mask, 0.0)
    x_b, x_a = tl.load(here - 1, xl, 0.0), tl.load(here + 1, xh, 0.0)
    y_b, y_a = tl.load(here - width, yl, 0.0), tl.load(here + width, yh, 0.0)
    z_b, z_a = tl.load(here - up, zl, 0.0), tl.load(here + up, zh, 0.0)
    x_bb, x_aa = (
        tl.load(here - 2, mask & (x > 1), 0.0),
        tl.load(here + 2, mask & (x < width - 2), 0.0),
    )
    y_bb = tl.load(here - 2 * width, mask & (y > 1), 0.0)
    y_aa = tl.load(here + 2 * width, mask & (y < height - 2), 0.0)
    z_bb = tl.load(here - 2 * up, mask & (z > 1), 0.0)
    z_aa = tl.load(here + 2 * up, mask & (z < depth - 2), 0.0)
    first_z, second_z = _bend(v, z_a, z_b, z_aa, z_bb, depth, z)
    first_y, second_y = _bend(v, y_a, y_b, y_aa, y_bb, height, y)
    first_x, second_x = _bend(v, x_a, x_b, x_aa, x_bb, width, x)
    x0, x1 = xl.to(tl.float32), xh.to(tl.float32)
    y0, y1 = yl.to(tl.float32), yh.to(tl.float32)
    z0, z1 = zl.to(tl.float32), zh.to(tl.float32)
    zy = _twist(
        v, z_b, z_a, y_b, y_a,
        tl.load(here - up - width, zl & yl, 0.0), tl.load(here - up + width, zl & yh, 0.0),
        tl.load(here + up - width, zh & yl, 0.0), tl.load(here + up + width, zh & yh, 0.0),
        z0, z1, y0, y1,
    )  # fmt: skip
    zx = _twist(
        v, z_b, z_a, x_b, x_a,
        tl.load(here - up - 1, zl & xl, 0.0), tl.load(here - up + 1, zl & xh, 0.0),
        tl.load(here + up - 1, zh & xl, 0.0), tl.load(here + up + 1, zh & xh, 0.0),
        z0, z1, x0, x1,
    )  # fmt: skip
    yx = _twist(
        v, y_b, y_a, x_b, x_a,
        tl.load(here - width - 1, yl & xl, 0.0), tl.load(here - width + 1, yl & xh, 0.0),
        tl.load(here + width - 1, yh & xl, 0.0), tl.load(here + width + 1, yh & xh, 0.0),
        y0, y1, x0, x1,
    )  # fmt: skip
    even = tl.load(weights) * first_z + tl.load(weights + 1) * first_y
    even += tl.load(weights + 2) * first_x
    bent = tl.load(weights + 3) * second_z + tl.load(weights + 4) * second_y
    bent += tl.load(weights + 5) * second_x + tl.load(weights + 6) * zy
    bent += tl.load(weights + 7) * zx + tl.load(weights + 8) * yx
    bent *= tl.load(bending + (channel // 3) % bendings)
    out = total + channel.to(tl.int64) * count + place
    rough = 2 * tl.load(share + channel // 3) * (even + bent)
    tl.store(out, tl.load(out, mask, 0.0) + rough, mask)


@triton.jit(do_not_specialize=["count"])
def adam(
    parameters, gradient, mean, square, now, count, memory, square_memory, epsilon,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """One step of Adam in place; `now` is its length and what the root of the square is times."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = place < count
    g = tl.load(gradient + place, mask, 0.0)
    m = tl.load(mean + place, mask, 0.0)
    s = tl.load(square + place, mask, 0.0)
    m += (1 - memory) * (g - m)
    s = square_memory * s + (1 - square_memory) * g * g
    tl.store(mean + place, m, mask)
    tl.store(square + place, s, mask)
    moved = m / (tl.sqrt(s) * tl.load(now + 1) + epsilon) * tl.load(now)
    tl.store(parameters + place, tl.load(parameters + place, mask, 0.0) - moved, mask)
