"""The plot: one panel a suite, one bar a server, with the interval of its median. Neutral colours: it has to read on white and on black."""

import html
import math

import bars
import intervals
import report

COLUMN_WIDTH = 470
GAP = 30
ROW_HEIGHT = 22
HEADER_HEIGHT = 46
LABEL_WIDTH = 108
VALUE_WIDTH = 64
TEXT = "#7d8590"
PEER = "#8c959f"
OURS = "#2f81f7"
LIMIT = "#d1642c"


def svg(results):
    """The whole picture as text."""
    panels = [panel(suite, results["suites"][suite.name], results["bars"]) for suite in bars.SUITES if suite.name in results["suites"]]
    rows = [panels[index : index + 2] for index in range(0, len(panels), 2)]
    body, top = [], GAP
    for row in rows:
        for column, (markup, _) in enumerate(row):
            body.append(f'<g transform="translate({GAP + column * (COLUMN_WIDTH + GAP)} {top})">{markup}</g>')
        top += max(height for _, height in row) + GAP
    width = 2 * COLUMN_WIDTH + 3 * GAP
    machine = results["machine"]
    others = "" if all("machine" not in result for result in results["suites"].values()) else ", and others (results.md)"
    caption = (f"Lower is better. Median of rounds with its 95 % interval; dashed: the strictest bar. {machine['cpu']}, Linux {machine['kernel']}"
               f"{others}.")
    body.append(text(GAP, top, caption, size=11))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top + GAP}" width="{width}" height="{top + GAP}" '
        f'font-family="system-ui, sans-serif" role="img" aria-label="Ferrule against its peers">\n' + "\n".join(body) + "\n</svg>\n"
    )


def text(x, y, content, size=12, anchor="start", colour=TEXT, weight="normal"):
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}" font-weight="{weight}">'
        f"{html.escape(content)}</text>"
    )


def panel(suite, result, judged):
    """(markup, height) of one suite."""
    metric = suite.metric
    shown = []
    for server, entry in result["servers"].items():
        found = report.values(entry["rounds"], metric.key)
        if found:
            middle, low, high = intervals.median_interval(found)
            shown.append((server, middle, low if math.isfinite(low) else min(found), high if math.isfinite(high) else max(found)))
    limits = strictest_bar(suite, result, judged)
    largest = max([high for _, _, _, high in shown] + [limits or 0.0, 1e-9])
    room = COLUMN_WIDTH - LABEL_WIDTH - VALUE_WIDTH
    scale = room / largest
    parts = [
        text(0, 14, suite.title, size=14, weight="600"),
        text(0, 32, f"{metric.title}, {metric.unit}", size=11),
    ]
    top = HEADER_HEIGHT
    for server, middle, low, high in shown:
        ours = server.startswith(bars.FERRULE)
        centre = top + ROW_HEIGHT / 2
        colour = OURS if ours else PEER
        parts.append(text(LABEL_WIDTH - 8, centre + 4, server, anchor="end", colour=colour if ours else TEXT, weight="600" if ours else "normal"))
        parts.append(f'<rect x="{LABEL_WIDTH}" y="{top + 4}" width="{middle * scale:.1f}" height="{ROW_HEIGHT - 8}" rx="2" fill="{colour}"/>')
        parts.append(
            f'<path d="M{LABEL_WIDTH + low * scale:.1f} {centre}H{LABEL_WIDTH + high * scale:.1f}" '
            f'stroke="{TEXT}" stroke-width="3" stroke-opacity="0.9"/>'
        )
        parts.append(text(COLUMN_WIDTH, centre + 4, report.number(middle, metric.digits), size=11, anchor="end"))
        top += ROW_HEIGHT
    if limits is not None and shown:
        x = LABEL_WIDTH + limits * scale
        parts.append(f'<path d="M{x:.1f} {HEADER_HEIGHT}V{top}" stroke="{LIMIT}" stroke-width="1.5" stroke-dasharray="4 3"/>')
    return "".join(parts), top


def strictest_bar(suite, result, judged):
    """The smallest value that a bar of this suite allows, in the unit of the panel; None without a bar."""
    allowed = []
    for bar in judged:
        if bar["suite"] != suite.name or bar["metric"] != suite.metric.key:
            continue
        if not bar["base"]:
            allowed.append(bar["bound"])
            continue
        base = report.median(result["servers"].get(bar["base"], {"rounds": []})["rounds"], bar["metric"])
        if base is not None:
            allowed.append(base + bar["bound"] if bar["difference"] else bar["bound"] * base)
    return min(allowed, default=None)
