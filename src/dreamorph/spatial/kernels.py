"""Triton programs that flow along and read 3D fields on a GPU.

Fields and volumes are contiguous, float32 and three-dimensional, the pairs of a batch first. A
program takes `BLOCK` places of one pair. Coordinates and displacements are in the units and the
order of components of `grid_sample` with `align_corners=False`; what lies beyond a volume has the
value at its border.
"""

# mypy: ignore-errors
# ruff: noqa: N803

import triton
import triton.language as tl

SIZES = ["depth", "height", "width"]


@triton.jit
def _cell(at, size):
    """Of coordinates in voxels: lower and upper neighbour, share of the upper, whether inside."""
    last = (size - 1).to(tl.float32)
    inside = (at > 0) & (at < last)
    at = tl.minimum(tl.maximum(at, 0.0), last)
    lower = at.to(tl.int32)
    return lower, tl.minimum(lower + 1, size - 1), at - lower.to(tl.float32), inside


@triton.jit
def _rows(z0, z1, y0, y1, height, width):
    """Where the four lines begin that a cell touches."""
    a, b = z0 * height, z1 * height
    return (a + y0) * width, (a + y1) * width, (b + y0) * width, (b + y1) * width


@triton.jit
def _read(volume, r00, r01, r10, r11, x0, x1, fx, fy, fz, mask):
    """A volume between eight voxels."""
    a = tl.load(volume + r00 + x0, mask, 0.0)
    p = a + fx * (tl.load(volume + r00 + x1, mask, 0.0) - a)
    a = tl.load(volume + r01 + x0, mask, 0.0)
    q = a + fx * (tl.load(volume + r01 + x1, mask, 0.0) - a)
    near = p + fy * (q - p)
    a = tl.load(volume + r10 + x0, mask, 0.0)
    p = a + fx * (tl.load(volume + r10 + x1, mask, 0.0) - a)
    a = tl.load(volume + r11 + x0, mask, 0.0)
    q = a + fx * (tl.load(volume + r11 + x1, mask, 0.0) - a)
    return near + fz * (p + fy * (q - p) - near)


@triton.jit
def _slope(volume, r00, r01, r10, r11, x0, x1, fx, fy, fz, mask):
    """Its slope along x, y and z, a voxel."""
    a = tl.load(volume + r00 + x0, mask, 0.0)
    d00 = tl.load(volume + r00 + x1, mask, 0.0) - a
    p = a + fx * d00
    a = tl.load(volume + r01 + x0, mask, 0.0)
    d01 = tl.load(volume + r01 + x1, mask, 0.0) - a
    q = a + fx * d01
    near, y_near, x_near = p + fy * (q - p), q - p, d00 + fy * (d01 - d00)
    a = tl.load(volume + r10 + x0, mask, 0.0)
    d00 = tl.load(volume + r10 + x1, mask, 0.0) - a
    p = a + fx * d00
    a = tl.load(volume + r11 + x0, mask, 0.0)
    d01 = tl.load(volume + r11 + x1, mask, 0.0) - a
    q = a + fx * d01
    far, y_far, x_far = p + fy * (q - p), q - p, d00 + fy * (d01 - d00)
    return x_near + fz * (x_far - x_near), y_near + fz * (y_far - y_near), far - near


@triton.jit
def _add(volume, r00, r01, r10, r11, x0, x1, fx, fy, fz, value, mask):
    """The transpose of reading: a value shared out among eight voxels."""
    far = value * fz
    near = value - far
    part = near * fy
    tl.atomic_add(volume + r01 + x0, part * (1 - fx), mask, sem="relaxed")
    tl.atomic_add(volume + r01 + x1, part * fx, mask, sem="relaxed")
    part = near - part
    tl.atomic_add(volume + r00 + x0, part * (1 - fx), mask, sem="relaxed")
    tl.atomic_add(volume + r00 + x1, part * fx, mask, sem="relaxed")
    part = far * fy
    tl.atomic_add(volume + r11 + x0, part * (1 - fx), mask, sem="relaxed")
    tl.atomic_add(volume + r11 + x1, part * fx, mask, sem="relaxed")
    part = far - part
    tl.atomic_add(volume + r10 + x0, part * (1 - fx), mask, sem="relaxed")
    tl.atomic_add(volume + r10 + x1, part * fx, mask, sem="relaxed")


@triton.jit(do_not_specialize=["count", "size", "step"])
def smooth(
    field, taps, out, count, size, step, RADIUS: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """One axis of a symmetric filter, mirrored at the border.

    Of `size` voxels along the axis the next lies `step` voxels on, of `count` of a component.
    """
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = place < count
    base = tl.program_id(1).to(tl.int64) * count
    own = (place // step) % size
    line = field + base + place - own * step
    total = tl.zeros([BLOCK], tl.float32)
    for k in tl.static_range(2 * RADIUS + 1):
        at = own + (k - RADIUS)
        at = tl.where(at < 0, -1 - at, at)
        at = tl.where(at >= size, 2 * size - 1 - at, at)
        total += tl.load(taps + k) * tl.load(line + at * step, mask, 0.0)
    tl.store(out + base + place, total, mask)


@triton.jit
def _own(field, base, count, place, mask, unit_x, unit_y, unit_z, FLIP: tl.constexpr):
    """A displacement at its own places, its components in the order x, y, z."""
    first, last = (2 * count, 0) if FLIP else (0, 2 * count)
    dx = unit_x * tl.load(field + base + first + place, mask, 0.0)
    dy = unit_y * tl.load(field + base + count + place, mask, 0.0)
    dz = unit_z * tl.load(field + base + last + place, mask, 0.0)
    return dx, dy, dz


@triton.jit(do_not_specialize=SIZES)
def flow(
    field, out, stretch, keep, unit_x, unit_y, unit_z, depth, height, width,
    FLIP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """`keep u(x) + u(x + stretch u(x))` of a displacement u.

    `field` holds u in other units, of which each is `unit_` long, and with `FLIP` in the order z,
    y, x of components.
    """
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    count = depth * height * width
    mask = place < count
    base = tl.program_id(1).to(tl.int64) * 3 * count
    x, y, z = place % width, (place // width) % height, place // (width * height)
    dx, dy, dz = _own(field, base, count, place, mask, unit_x, unit_y, unit_z, FLIP)
    x0, x1, fx, _ = _cell(x + dx * (0.5 * stretch * width), width)
    y0, y1, fy, _ = _cell(y + dy * (0.5 * stretch * height), height)
    z0, z1, fz, _ = _cell(z + dz * (0.5 * stretch * depth), depth)
    r00, r01, r10, r11 = _rows(z0, z1, y0, y1, height, width)
    for c in tl.static_range(3):
        there = field + base + (2 - c if FLIP else c) * count
        found = _read(there, r00, r01, r10, r11, x0, x1, fx, fy, fz, mask)
        unit = unit_x if c == 0 else (unit_y if c == 1 else unit_z)
        own = dx if c == 0 else (dy if c == 1 else dz)
        tl.store(out + base + c * count + place, keep * own + unit * found, mask)


@triton.jit(do_not_specialize=SIZES)
def flow_back(
    field, given, made, stretch, keep, unit_x, unit_y, unit_z, depth, height, width,
    FLIP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Adds the gradient of `flow` by `field` to `made`, zero so far; `given` is by its result.

    Sums are added in any order. To gather from the 27 voxels around, for all that look no farther,
    took twice as long (docs/decisions/0028).
    """
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    count = depth * height * width
    mask = place < count
    base = tl.program_id(1).to(tl.int64) * 3 * count
    x, y, z = place % width, (place // width) % height, place // (width * height)
    to_x, to_y, to_z = 0.5 * stretch * width, 0.5 * stretch * height, 0.5 * stretch * depth
    dx, dy, dz = _own(field, base, count, place, mask, unit_x, unit_y, unit_z, FLIP)
    x0, x1, fx, in_x = _cell(x + dx * to_x, width)
    y0, y1, fy, in_y = _cell(y + dy * to_y, height)
    z0, z1, fz, in_z = _cell(z + dz * to_z, depth)
    r00, r01, r10, r11 = _rows(z0, z1, y0, y1, height, width)
    by_x = tl.zeros([BLOCK], tl.float32)
    by_y = tl.zeros([BLOCK], tl.float32)
    by_z = tl.zeros([BLOCK], tl.float32)
    for c in tl.static_range(3):
        there = base + (2 - c if FLIP else c) * count
        unit = unit_x if c == 0 else (unit_y if c == 1 else unit_z)
        g = unit * tl.load(given + base + c * count + place, mask, 0.0)
        sx, sy, sz = _slope(field + there, r00, r01, r10, r11, x0, x1, fx, fy, fz, mask)
        by_x += g * sx
        by_y += g * sy
        by_z += g * sz
        _add(made + there, r00, r01, r10, r11, x0, x1, fx, fy, fz, g, mask)
    by_x = tl.where(in_x, by_x * to_x, 0.0)
    by_y = tl.where(in_y, by_y * to_y, 0.0)
    by_z = tl.where(in_z, by_z * to_z, 0.0)
    for c in tl.static_range(3):
        unit = unit_x if c == 0 else (unit_y if c == 1 else unit_z)
        by = by_x if c == 0 else (by_y if c == 1 else by_z)
        g = unit * (keep * tl.load(given + base + c * count + place, mask, 0.0) + by)
        there = base + (2 - c if FLIP else c) * count
        tl.atomic_add(made + there + place, g, mask, sem="relaxed")


@triton.jit
def _seen(
    displacement, maps, pair, place, mask, first_z, first_y, first_x, box_y, box_x,
    depth, height, width, coarse_z, coarse_y, coarse_x,
):  # fmt: skip
    """Where places of a box are read, in voxels."""
    x = first_x + place % box_x
    y = first_y + (place // box_x) % box_y
    z = first_z + place // (box_x * box_y)
    x0, x1, fx, _ = _cell((x + 0.5) * (coarse_x / width) - 0.5, coarse_x)
    y0, y1, fy, _ = _cell((y + 0.5) * (coarse_y / height) - 0.5, coarse_y)
    z0, z1, fz, _ = _cell((z + 0.5) * (coarse_z / depth) - 0.5, coarse_z)
    r00, r01, r10, r11 = _rows(z0, z1, y0, y1, coarse_y, coarse_x)
    count = coarse_z * coarse_y * coarse_x
    field = displacement + pair.to(tl.int64) * 3 * count
    px = _read(field, r00, r01, r10, r11, x0, x1, fx, fy, fz, mask)
    py = _read(field + count, r00, r01, r10, r11, x0, x1, fx, fy, fz, mask)
    pz = _read(field + 2 * count, r00, r01, r10, r11, x0, x1, fx, fy, fz, mask)
    px += (2 * x + 1) / width - 1
    py += (2 * y + 1) / height - 1
    pz += (2 * z + 1) / depth - 1
    m = maps + pair * 12
    ax = tl.load(m) * px + tl.load(m + 1) * py + tl.load(m + 2) * pz + tl.load(m + 3)
    ay = tl.load(m + 4) * px + tl.load(m + 5) * py + tl.load(m + 6) * pz + tl.load(m + 7)
    az = tl.load(m + 8) * px + tl.load(m + 9) * py + tl.load(m + 10) * pz + tl.load(m + 11)
    return (
        (ax + 1) * (0.5 * width) - 0.5,
        (ay + 1) * (0.5 * height) - 0.5,
        (az + 1) * (0.5 * depth) - 0.5,
    )


READ = ["first_z", "first_y", "first_x", "box_z", "box_y", "box_x", *SIZES]
READ += ["coarse_z", "coarse_y", "coarse_x"]


@triton.jit(do_not_specialize=READ)
def read(
    volume, displacement, maps, out, first_z, first_y, first_x, box_z, box_y, box_x,
    depth, height, width, coarse_z, coarse_y, coarse_x,
    CHANNELS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Volumes of several channels at `A(x + u(x))`, x the voxels of a box, u on a coarser grid."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    pair = tl.program_id(1)
    mask = place < box_z * box_y * box_x
    at_x, at_y, at_z = _seen(
        displacement, maps, pair, place, mask, first_z, first_y, first_x, box_y, box_x,
        depth, height, width, coarse_z, coarse_y, coarse_x,
    )  # fmt: skip
    x0, x1, fx, _ = _cell(at_x, width)
    y0, y1, fy, _ = _cell(at_y, height)
    z0, z1, fz, _ = _cell(at_z, depth)
    r00, r01, r10, r11 = _rows(z0, z1, y0, y1, height, width)
    for c in range(CHANNELS):
        channel = pair.to(tl.int64) * CHANNELS + c
        there = volume + channel * depth * height * width
        found = _read(there, r00, r01, r10, r11, x0, x1, fx, fy, fz, mask)
        tl.store(out + channel * box_z * box_y * box_x + place, found, mask)


@triton.jit(do_not_specialize=READ)
def read_back(
    volume, displacement, maps, given, made, first_z, first_y, first_x, box_z, box_y, box_x,
    depth, height, width, coarse_z, coarse_y, coarse_x,
    CHANNELS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The gradient of `read` by `u(x)` at each voxel x of the box, `(B, 3, *box)`."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    pair = tl.program_id(1)
    count = box_z * box_y * box_x
    mask = place < count
    at_x, at_y, at_z = _seen(
        displacement, maps, pair, place, mask, first_z, first_y, first_x, box_y, box_x,
        depth, height, width, coarse_z, coarse_y, coarse_x,
    )  # fmt: skip
    x0, x1, fx, in_x = _cell(at_x, width)
    y0, y1, fy, in_y = _cell(at_y, height)
    z0, z1, fz, in_z = _cell(at_z, depth)
    r00, r01, r10, r11 = _rows(z0, z1, y0, y1, height, width)
    gx = tl.zeros([BLOCK], tl.float32)
    gy = tl.zeros([BLOCK], tl.float32)
    gz = tl.zeros([BLOCK], tl.float32)
    for c in range(CHANNELS):
        channel = pair.to(tl.int64) * CHANNELS + c
        there = volume + channel * depth * height * width
        g = tl.load(given + channel * count + place, mask, 0.0)
        sx, sy, sz = _slope(there, r00, r01, r10, r11, x0, x1, fx, fy, fz, mask)
        gx += g * sx
        gy += g * sy
        gz += g * sz
    gx = tl.where(in_x, gx * (0.5 * width), 0.0)
    gy = tl.where(in_y, gy * (0.5 * height), 0.0)
    gz = tl.where(in_z, gz * (0.5 * depth), 0.0)
    m = maps + pair * 12
    out = made + pair.to(tl.int64) * 3 * count + place
    for c in tl.static_range(3):
        by = tl.load(m + c) * gx + tl.load(m + 4 + c) * gy + tl.load(m + 8 + c) * gz
        tl.store(out + c * count, by, mask)


@triton.jit
def _share(node, fine, coarse, size, first, box):
    """Weight of a coarse node in fine voxels, and which voxel of the box each is."""
    at = (fine + 0.5) * (coarse / size) - 0.5
    at = tl.minimum(tl.maximum(at, 0.0), (coarse - 1).to(tl.float32))
    weight = tl.maximum(1 - tl.abs(at - node.to(tl.float32)), 0.0)
    within = (fine >= first) & (fine < first + box)
    return tl.where(within, weight, 0.0), fine - first


@triton.jit
def _earliest(node, coarse, size):
    """First fine voxel in which a coarse node may have a say."""
    return tl.floor((node - 0.5) * (size / coarse) - 0.5).to(tl.int32) + 1


@triton.jit(do_not_specialize=READ)
def gather(
    fine, made, first_z, first_y, first_x, box_z, box_y, box_x,
    depth, height, width, coarse_z, coarse_y, coarse_x, TAPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """From the voxels of a box to the coarser grid: the transpose of linear interpolation."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    count, within = coarse_z * coarse_y * coarse_x, box_z * box_y * box_x
    mask = place < count
    x, y, z = place % coarse_x, (place // coarse_x) % coarse_y, place // (coarse_x * coarse_y)
    from_x = _earliest(x, coarse_x, width)
    from_y = _earliest(y, coarse_y, height)
    from_z = _earliest(z, coarse_z, depth)
    source = fine + tl.program_id(1).to(tl.int64) * 3 * within
    gx = tl.zeros([BLOCK], tl.float32)
    gy = tl.zeros([BLOCK], tl.float32)
    gz = tl.zeros([BLOCK], tl.float32)
    for k in range(TAPS):
        wz, at_z = _share(z, from_z + k, coarse_z, depth, first_z, box_z)
        for j in range(TAPS):
            wy, at_y = _share(y, from_y + j, coarse_y, height, first_y, box_y)
            wy *= wz
            for i in tl.static_range(TAPS):
                wx, at_x = _share(x, from_x + i, coarse_x, width, first_x, box_x)
                wx *= wy
                there = source + (at_z * box_y + at_y) * box_x + at_x
                counts = mask & (wx > 0)
                gx += wx * tl.load(there, counts, 0.0)
                gy += wx * tl.load(there + within, counts, 0.0)
                gz += wx * tl.load(there + 2 * within, counts, 0.0)
    out = made + tl.program_id(1).to(tl.int64) * 3 * count + place
    tl.store(out, gx, mask)
    tl.store(out + count, gy, mask)
    tl.store(out + 2 * count, gz, mask)


TRACE = [*SIZES, "coarse_z", "coarse_y", "coarse_x"]


@triton.jit
def _flowing(field, count, x, y, z, coarse_z, coarse_y, coarse_x, mask):
    """A velocity `(3, *coarse)` in mm, in the order z, y, x, at points in units of its grid."""
    x0, x1, fx, _ = _cell((x + 1) * (0.5 * coarse_x) - 0.5, coarse_x)
    y0, y1, fy, _ = _cell((y + 1) * (0.5 * coarse_y) - 0.5, coarse_y)
    z0, z1, fz, _ = _cell((z + 1) * (0.5 * coarse_z) - 0.5, coarse_z)
    r00, r01, r10, r11 = _rows(z0, z1, y0, y1, coarse_y, coarse_x)
    return (
        _read(field + 2 * count, r00, r01, r10, r11, x0, x1, fx, fy, fz, mask),
        _read(field + count, r00, r01, r10, r11, x0, x1, fx, fy, fz, mask),
        _read(field, r00, r01, r10, r11, x0, x1, fx, fy, fz, mask),
    )


@triton.jit
def _mapped(maps, x, y, z):
    """Points under an affine map `(3, 4)`."""
    return (
        tl.load(maps) * x + tl.load(maps + 1) * y + tl.load(maps + 2) * z + tl.load(maps + 3),
        tl.load(maps + 4) * x + tl.load(maps + 5) * y + tl.load(maps + 6) * z + tl.load(maps + 7),
        tl.load(maps + 8) * x + tl.load(maps + 9) * y + tl.load(maps + 10) * z + tl.load(maps + 11),
    )


@triton.jit(do_not_specialize=TRACE)
def trace(
    velocity, first, last, out, unit_x, unit_y, unit_z, depth, height, width,
    coarse_z, coarse_y, coarse_x, STEPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Where voxels come to under one affine map, a stretch of `STEPS` steps, and another map.

    `first` and `last` are `(B, 3, 4)`, in units of the grid and from there to mm; a velocity times
    `unit_` is the way of one step.
    """
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    pair = tl.program_id(1)
    voxels, count = depth * height * width, coarse_z * coarse_y * coarse_x
    mask = place < voxels
    x = (2 * (place % width) + 1) / width - 1
    y = (2 * ((place // width) % height) + 1) / height - 1
    z = (2 * (place // (width * height)) + 1) / depth - 1
    x, y, z = _mapped(first + pair * 12, x, y, z)
    field = velocity + pair.to(tl.int64) * 3 * count
    for _ in range(STEPS):
        sum_x = tl.zeros([BLOCK], tl.float32)
        sum_y = tl.zeros([BLOCK], tl.float32)
        sum_z = tl.zeros([BLOCK], tl.float32)
        way_x = tl.zeros([BLOCK], tl.float32)
        way_y = tl.zeros([BLOCK], tl.float32)
        way_z = tl.zeros([BLOCK], tl.float32)
        for look in tl.static_range(4):
            part = 0.0 if look == 0 else (1.0 if look == 3 else 0.5)
            way_x, way_y, way_z = _flowing(
                field, count, x + part * way_x, y + part * way_y, z + part * way_z,
                coarse_z, coarse_y, coarse_x, mask,
            )  # fmt: skip
            way_x, way_y, way_z = unit_x * way_x, unit_y * way_y, unit_z * way_z
            weight = 1 / 6 if look == 0 or look == 3 else 1 / 3
            sum_x += weight * way_x
            sum_y += weight * way_y
            sum_z += weight * way_z
        x += sum_x
        y += sum_y
        z += sum_z
    x, y, z = _mapped(last + pair * 12, x, y, z)
    there = out + pair.to(tl.int64) * 3 * voxels + place
    tl.store(there, z, mask)
    tl.store(there + voxels, y, mask)
    tl.store(there + 2 * voxels, x, mask)


@triton.jit
def _edge(points, voxels, step, there, own_z, own_y, own_x, spacing):
    """From a voxel to its neighbour, a unit of length of the grid."""
    return (
        (tl.load(points + step, there, 0.0) - own_z) / spacing,
        (tl.load(points + voxels + step, there, 0.0) - own_y) / spacing,
        (tl.load(points + 2 * voxels + step, there, 0.0) - own_x) / spacing,
    )


@triton.jit
def _positive(az, ay, ax, bz, by, bx, cz, cy, cx):
    return az * (by * cx - cy * bx) - bz * (ay * cx - cy * ax) + cz * (ay * bx - by * ax) > 0


@triton.jit(do_not_specialize=SIZES)
def folded(
    points, out, spacing_z, spacing_y, spacing_x, depth, height, width, BLOCK: tl.constexpr
):  # fmt: skip
    """Voxels where any determinant by one-sided differences is not positive, as bytes."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    voxels = depth * height * width
    mask = place < voxels
    pair = tl.program_id(1).to(tl.int64)
    x, y, z = place % width, (place // width) % height, place // (width * height)
    here = points + pair * 3 * voxels + place
    own_z = tl.load(here, mask, 0.0)
    own_y = tl.load(here + voxels, mask, 0.0)
    own_x = tl.load(here + 2 * voxels, mask, 0.0)
    bad = tl.zeros([BLOCK], tl.int32)
    for k in tl.static_range(2):
        up = 2 * k - 1
        in_z = mask & (z + up >= 0) & (z + up < depth)
        step = up * height * width
        az, ay, ax = _edge(here, voxels, step, in_z, own_z, own_y, own_x, up * spacing_z)
        for j in tl.static_range(2):
            up = 2 * j - 1
            in_y = in_z & (y + up >= 0) & (y + up < height)
            bz, by, bx = _edge(here, voxels, up * width, in_y, own_z, own_y, own_x, up * spacing_y)
            for i in tl.static_range(2):
                up = 2 * i - 1
                in_x = in_y & (x + up >= 0) & (x + up < width)
                cz, cy, cx = _edge(here, voxels, up, in_x, own_z, own_y, own_x, up * spacing_x)
                fine = _positive(az, ay, ax, bz, by, bx, cz, cy, cx)
                bad += (in_x & (~fine)).to(tl.int32)
    tl.store(out + pair * voxels + place, (bad > 0).to(tl.int8), mask)


LOOK = ["first_z", "first_y", "first_x", "box_z", "box_y", "box_x", *SIZES]


@triton.jit
def _place(place, first_z, first_y, first_x, box_y, box_x, depth, height, width):
    """Voxels of a box in units of the whole grid."""
    x = (2 * (first_x + place % box_x) + 1) / width - 1
    y = (2 * (first_y + (place // box_x) % box_y) + 1) / height - 1
    z = (2 * (first_z + place // (box_x * box_y)) + 1) / depth - 1
    return x, y, z


@triton.jit(do_not_specialize=LOOK)
def look(
    volume, maps, out, first_z, first_y, first_x, box_z, box_y, box_x, depth, height, width,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """A volume under affine maps `(B, 3, 4)` for the voxels of a box."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    pair = tl.program_id(1)
    count = box_z * box_y * box_x
    mask = place < count
    x, y, z = _place(place, first_z, first_y, first_x, box_y, box_x, depth, height, width)
    x, y, z = _mapped(maps + pair * 12, x, y, z)
    x0, x1, fx, _ = _cell((x + 1) * (0.5 * width) - 0.5, width)
    y0, y1, fy, _ = _cell((y + 1) * (0.5 * height) - 0.5, height)
    z0, z1, fz, _ = _cell((z + 1) * (0.5 * depth) - 0.5, depth)
    r00, r01, r10, r11 = _rows(z0, z1, y0, y1, height, width)
    there = volume + pair.to(tl.int64) * depth * height * width
    found = _read(there, r00, r01, r10, r11, x0, x1, fx, fy, fz, mask)
    tl.store(out + pair.to(tl.int64) * count + place, found, mask)


@triton.jit(do_not_specialize=LOOK)
def look_back(
    volume, maps, given, parts, first_z, first_y, first_x, box_z, box_y, box_x,
    depth, height, width, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradient of `look` by the maps, a sum for each program: `(B, programs, 3, 4)`."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    pair = tl.program_id(1)
    count = box_z * box_y * box_x
    mask = place < count
    x, y, z = _place(place, first_z, first_y, first_x, box_y, box_x, depth, height, width)
    at_x, at_y, at_z = _mapped(maps + pair * 12, x, y, z)
    x0, x1, fx, in_x = _cell((at_x + 1) * (0.5 * width) - 0.5, width)
    y0, y1, fy, in_y = _cell((at_y + 1) * (0.5 * height) - 0.5, height)
    z0, z1, fz, in_z = _cell((at_z + 1) * (0.5 * depth) - 0.5, depth)
    r00, r01, r10, r11 = _rows(z0, z1, y0, y1, height, width)
    there = volume + pair.to(tl.int64) * depth * height * width
    sx, sy, sz = _slope(there, r00, r01, r10, r11, x0, x1, fx, fy, fz, mask)
    g = tl.load(given + pair.to(tl.int64) * count + place, mask, 0.0)
    sx = tl.where(in_x, g * sx * (0.5 * width), 0.0)
    sy = tl.where(in_y, g * sy * (0.5 * height), 0.0)
    sz = tl.where(in_z, g * sz * (0.5 * depth), 0.0)
    out = parts + (pair.to(tl.int64) * tl.num_programs(0) + tl.program_id(0)) * 12
    for c in tl.static_range(3):
        s = sx if c == 0 else (sy if c == 1 else sz)
        tl.store(out + 4 * c, tl.sum(s * x, axis=0))
        tl.store(out + 4 * c + 1, tl.sum(s * y, axis=0))
        tl.store(out + 4 * c + 2, tl.sum(s * z, axis=0))
        tl.store(out + 4 * c + 3, tl.sum(s, axis=0))
