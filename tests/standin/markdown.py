"""Tables of generated markdown pages."""


def table(lines):
    """Return the cells of a markdown table, by its first column."""
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in lines if line[:1] == "|"]
    header, _, *body = rows
    return {row[0].strip("`"): dict(zip(header, row, strict=True)) for row in body}
