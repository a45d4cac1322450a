"""Draws a function as lines of text."""


def plot(function, left, right, columns=60, rows=16):
    """A picture of `function` from `left` to `right`; a point that has no value is left out."""
    points = []
    for column in range(columns):
        x = left + (right - left) * column / (columns - 1)
        try:
            points.append((column, function(x)))
        except (ValueError, ZeroDivisionError, OverflowError):
            continue
    if not points:
        return ""
    low, high = min(y for _, y in points), max(y for _, y in points)
    canvas = [[" "] * columns for _ in range(rows)]
    for column, y in points:
        row = round((high - y) / (high - low) * (rows - 1)) if high > low else rows // 2
        canvas[row][column] = "*"
    return "\n".join("".join(row).rstrip() for row in canvas)
