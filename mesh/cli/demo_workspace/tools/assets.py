"""Draws this shard's pictures of the Mandelbrot set and compresses them: assets/views.txt has one picture a line."""

import gzip
import sys
from pathlib import Path

from common import say, wait, write

SIZE = 150


def picture(x, y, width, steps):
    """A portable grey map."""
    rows = bytearray()
    for row in range(SIZE):
        for column in range(SIZE):
            c = complex(x + width * (column / SIZE - 0.5), y + width * (row / SIZE - 0.5))
            z, step = 0j, 0
            while step < steps and abs(z) < 2:
                z, step = z * z + c, step + 1
            rows.append(255 - 255 * step // steps)
    return f"P5 {SIZE} {SIZE} 255\n".encode() + rows


def main(shard, shards, target):
    views = [line.split() for line in Path("assets/views.txt").read_text().splitlines()]
    for name, x, y, width, steps in views[int(shard) - 1 :: int(shards)]:
        data = picture(float(x), float(y), float(width), int(steps))
        packed = gzip.compress(data, 9, mtime=0)
        say(f"{name}: {len(data):,} bytes, {len(packed):,} compressed")
        wait(0.2)
        write(f"{target}/{name}.pgm.gz", packed)


main(*sys.argv[1:])
