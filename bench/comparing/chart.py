"""The comparison as a picture: of each case, every program's share of what the machine allows (the floor), median and range, and
the bandwidth meanwhile; below it the programs' versions and flags."""

import statistics
import textwrap
from xml.sax.saxutils import escape

from comparing.report import FULL_HEAD, OURS, Measured, number, spread

WIDTH, LEFT, RIGHT, ROW = 960, 250, 190, 20
LINE = 130  # characters of a note
COLOURS = ("#3b7dc4", "#7fb0e6", "#e09a1f", "#6b9e3f", "#8a6fc0", "#c774b1", "#2aa198", "#8c6d46", "#7d8794")
STYLE = ("text{font-family:system-ui,'DejaVu Sans',sans-serif;font-size:12px;fill:#1b1f24}.big{font-size:17px;font-weight:600}"
         ".bold{font-weight:600}.dim{fill:#59636e}.end{text-anchor:end}.mid{text-anchor:middle}.page{fill:#fff}"
         ".line{stroke:#c4cbd3}.range{stroke:#1b1f24;stroke-width:1.5}"
         "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.dim{fill:#9aa7b4}.page{fill:#11151a}.line{stroke:#3b444e}"
         ".range{stroke:#e6edf3}}")


def chart(found: dict[str, Measured], title: str, subtitle: str, notes: list[str]) -> str:
    found = {case: m for case, m in found.items() if m.details.get(OURS)}
    programs = list(dict.fromkeys([OURS, FULL_HEAD, *(p for m in found.values() for p in m.rates)]))
    colours = dict(zip(programs, COLOURS * 3))
    most = max([1.0, *(max(m.of_floor(p)) for m in found.values() for p in m.rates if m.of_floor(p))])
    scale = (WIDTH - LEFT - RIGHT) / (most * 1.02)
    body, y = [], 84

    def text(x, y, classes, what):
        body.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{classes}">{escape(what)}</text>')

    text(24, 32, "big", title)
    text(24, 52, "dim", subtitle)
    top = y - 10
    for case, m in found.items():
        text(24, y + 14, "bold", case)
        text(LEFT, y + 14, "dim", f"memory meanwhile: {spread(m.bandwidth())} GB/s")
        y += 22
        for program in (p for p in programs if m.of_floor(p)):
            shares = m.of_floor(program)
            middle = statistics.median(shares)
            text(LEFT - 10, y + 13, "end", program)
            body.append(f'<rect x="{LEFT}" y="{y + 2}" width="{middle * scale:.1f}" height="{ROW - 5}" fill="{colours[program]}"/>')
            low, high = LEFT + min(shares) * scale, LEFT + max(shares) * scale
            body.append(f'<path class="range" d="M{low:.1f} {y + ROW / 2}H{high:.1f}M{low:.1f} {y + 6}v8M{high:.1f} {y + 6}v8"/>')
            text(max(high, LEFT + middle * scale) + 8, y + 13, "",
                 f"{100 * middle:.0f} %  ·  {number(statistics.median(m.values(program)))} tok/s")
            y += ROW
        y += 8
    grid = []
    for percent in range(0, int(100 * most) + 1, 25):
        x = LEFT + percent / 100 * scale
        grid.append(f'<path class="line" d="M{x:.1f} {top}V{y}" stroke-width="{2 if percent == 100 else 1}"/>')
        text(x, top - 4, "mid dim", f"{percent} %" if percent != 100 else "floor: 100 %")
    for line in (part for note in notes for part in textwrap.wrap(note, LINE, subsequent_indent="    ")):
        y += 16
        text(24, y + 8, "dim", line)
    return (f'<?xml version="1.0" encoding="UTF-8"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 12}" '
            f'viewBox="0 0 {WIDTH} {y + 12}" role="img">\n<title>{escape(title)}</title>\n<style>{STYLE}</style>\n'
            f'<rect class="page" width="100%" height="100%"/>\n' + "\n".join([*grid, *body]) + "\n</svg>\n")
