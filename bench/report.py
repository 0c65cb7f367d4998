# SPDX-License-Identifier: BSD-2-Clause
"""From the lines of raw.jsonl to header, table and plots."""

import datetime
import glob
import math
import os
import re
import statistics
import subprocess

import worlds

BEGIN, END = "<!-- bench begin -->", "<!-- bench end -->"
COLOURS = {"native": "#666666", "uml": "#d08a2e", "uml-ptrace": "#e9c28f", "qemu": "#4f86c6", "lol": "#2e9e5b"}
FAR = "lol-far"  # what Figures makes of a session of LoL whose two CPUs were far apart


def read(name, default="?"):
    try:
        with open(name, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return default


def header(place, options, versions):
    """What a reader must know to judge the figures."""
    cpu = re.search(r"model name\s*: (.*)", read("/proc/cpuinfo"))
    numbers = re.search(r"cpu family\s*: (\d+)\nmodel\s*: (\d+)", read("/proc/cpuinfo"))
    mitigations = {}
    for name in sorted(glob.glob("/sys/devices/system/cpu/vulnerabilities/*")):
        text = read(name)
        if text != "Not affected":
            mitigations[os.path.basename(name)] = text
    return {
        "date": datetime.datetime.now().astimezone().isoformat(timespec="minutes"),
        "cpu": (cpu.group(1) if cpu else "?") + (f", family {numbers.group(1)} model {numbers.group(2)}" if numbers else ""),
        "hypervisor": "yes" if " hypervisor" in read("/proc/cpuinfo") else "no",
        "cpus": os.cpu_count(),
        "memory": read("/proc/meminfo").split("\n")[0].split(":")[-1].strip(),
        "kernel": " ".join(os.uname()[i] for i in (2, 3)),
        "mitigations": mitigations,
        "pages": read("/sys/kernel/mm/transparent_hugepage/enabled"),
        "governor": read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "none"),
        "load": os.getloadavg()[0],
        "pinning": {
            "native, UML": str(options.cpus[-1]),
            "LoL, QEMU": ",".join(map(str, options.cpus)),
        },
        "spin": "lol-run's default (--handoff auto)",
        "guest": f"1 CPU, {worlds.MEM_MIB} MiB",
        "versions": versions,
        "filesystem": subprocess.run(["stat", "-f", "-c", "%T", place.state], capture_output=True, text=True, check=False).stdout.strip(),
    }


def far_sessions(lines):
    """The sessions of LoL with CPUs far apart, as long as there are others."""
    sessions = {line["session"]: line["far"] for line in lines if "distance" in line}
    return {name for name, far in sessions.items() if far} if not all(sessions.values()) else set()


class Figures:
    """Medians by (row, world), of the full-size measurements where there are any. FAR is a world, too."""

    def __init__(self, lines):
        self.values, self.errors, self.skips, self.checks = {}, {}, {}, {}
        far = far_sessions(lines)
        for line in lines:
            key = (line.get("row"), FAR if line.get("session") in far else line.get("world"))
            if "value" in line:
                self.values.setdefault(key, []).append(line)
                self.errors.pop(key, None)
                self.checks.setdefault((line["row"], line["size"]), {}).setdefault(line["check"], set()).add(line["world"])
            elif "error" in line:
                self.errors.setdefault(key, line["error"])
            elif "skip" in line:
                self.skips[key] = line["skip"]
        self.far = any(world == FAR for _, world in self.values)
        for key, values in self.values.items():
            last = values[-1]["size"]
            self.values[key] = [line for line in values if line["size"] == last]

    def median(self, row, world):
        lines = self.values.get((row, world))
        return statistics.median(line["value"] for line in lines) if lines else None

    def spread(self, row, world):
        """Half the range of the rounds, in percent of the median; of one round that of its batches."""
        lines = self.values[(row, world)]
        low, high = min(line["value"] for line in lines), max(line["value"] for line in lines)
        if len(lines) == 1:
            low, high = lines[0]["least"], lines[0]["greatest"]
        middle = self.median(row, world)
        return 50 * (high - low) / middle if middle else 0

    def unit(self, row):
        return next((lines[0]["unit"] for (name, _), lines in self.values.items() if name == row), "")

    def slowdown(self, row, world):
        """How many times native's time; None where one of them is missing."""
        native, own = self.median(row, "native"), self.median(row, world)
        if not native or not own:
            return None
        return native / own if self.unit(row).endswith("/s") else own / native

    def problems(self):
        for (row, world), text in sorted(self.errors.items(), key=str):
            yield f"{row} in {world}: {text}"
        for (row, _), answers in self.checks.items():
            if len(answers) > 1:
                yield f"{row}: results differ: " + "; ".join(f"{check} in {', '.join(sorted(names))}" for check, names in answers.items())


def amount(value, unit):
    if unit == "ns":
        for limit, divisor, name in ((1e3, 1, "ns"), (1e6, 1e3, "us"), (1e9, 1e6, "ms")):
            if value < limit:
                return f"{value / divisor:.3g} {name}"
    if unit == "/s":
        return f"{value / 1e3:.3g} k/s"
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"


def no_flush(row, world):
    return row in worlds.FLUSHES and world in worlds.NO_FLUSH


def verdict(figures, row, own, best, peer):
    if own <= best:
        return ""
    spread = max(figures.spread(row, "lol"), figures.spread(row, peer), 1)
    return " (behind)" if own > best * (1 + spread / 100) else " (equal within the spread)"


def aim_reached(figures, row, own, aim):
    if own <= aim:
        return " yes"
    spread = max(figures.spread(row, "lol"), figures.spread(row, "native"), 1)
    return " no" if own > aim * (1 + spread / 100) else " within the spread"


def table_rows(figures, rows, names):
    for row, entry in rows.items():
        if not any(figures.median(row, world) for world in names):
            continue
        title, aim = entry[0], entry[1]
        cells = [title]
        for world in names:
            value = figures.median(row, world)
            if value is None:
                cells.append("failed" if (row, world) in figures.errors else "-")
            else:
                mark = " (no flush)" if no_flush(row, world) else ""
                cells.append(f"{amount(value, figures.unit(row))} ±{figures.spread(row, world):.0f} %{mark}")
        if "lol" in names:
            own = figures.slowdown(row, "lol")
            peers = [(figures.slowdown(row, world), world) for world in names if world not in ("native", "lol") and not no_flush(row, world)]
            best, peer = min((peer for peer in peers if peer[0]), default=(None, None))
            cells.append(f"{own:.2f} x" if own else "-")
            reached = "" if not own or aim is None else aim_reached(figures, row, own, aim)
            cells.append((f"{aim:g} x" if aim else "-") + reached)
            cells.append("-" if not own or not best else f"{best / own:.2f} x" + verdict(figures, row, own, best, peer))
        if figures.far:
            value, ratio = figures.median(row, FAR), figures.slowdown(row, FAR)
            cells.append("-" if value is None else amount(value, figures.unit(row)) + (f", {ratio:.2f} x" if ratio else ""))
        yield cells


def geometric_mean(figures, rows, world):
    ratios = [figures.slowdown(row, world) for row in rows]
    ratios = [ratio for ratio in ratios if ratio]
    return (math.exp(sum(map(math.log, ratios)) / len(ratios)), len(ratios)) if ratios else (None, 0)


def mean_cell(figures, world):
    mean, count = geometric_mean(figures, worlds.MEAN, world)
    return f"{100 / mean:.0f} % ({count})" if mean else "-"


def distances(lines):
    """A line, if there is one."""
    apart = [(max(line["distance"]), line["far"]) for line in lines if "distance" in line]
    near, far = [ns for ns, far in apart if not far], [ns for ns, far in apart if far]
    groups = "; ".join(f"{len(group)} with {min(group):.0f} to {max(group):.0f} ns{what}" for group, what in ((near, ""), (far, ", far apart")) if group)
    return [f"Distance of the two CPUs (a hand-over and back) in the sessions of LoL: {groups}."] if apart else []


def describe(lines):
    headers = [line["header"] for line in lines if "header" in line]
    if not headers:
        return "\n".join(["No header: raw.jsonl is incomplete."] + distances(lines))
    last = headers[-1]
    loads = [line["load"] for line in lines if "load" in line]
    text = [
        f"Measured {last['date']} on {last['cpu']}, {last['cpus']} CPUs, {last['memory']}"
        + (", itself a virtual machine" if last["hypervisor"] == "yes" else "") + f", Linux {last['kernel']}.",
        f"Guests: {last['guest']}. Pinned: native and UML to CPU {last['pinning']['native, UML']}, LoL and QEMU to "
        f"{last['pinning']['LoL, QEMU']}. Spin: {last['spin']}. Governor: {last['governor']}. Large pages of the host: {last['pages']}. "
        f"File system of the disks: {last['filesystem']}.",
        "Mitigations of the host: " + ("; ".join(f"{name}: {value}" for name, value in last["mitigations"].items()) or "none needed") + ".",
        "; ".join(f"{worlds.WORLDS[world][0]}: {value}" for world, value in last["versions"].items() if value) + ".",
        f"Load average of the machine: {last['load']:.1f} at the start" + (f", {min(loads):.1f} to {max(loads):.1f} meanwhile." if loads else "."),
    ]
    return "\n".join(text + distances(lines))


def markdown(lines, figures, plots, folder=""):
    names = [world for world in worlds.WORLDS if any(key[1] == world for key in figures.values)]
    text = [describe(lines), ""]
    ours = ["LoL / native", "aim", "best peer / LoL"] if "lol" in names else []
    far = ["LoL, CPUs far apart"] if figures.far else []
    for title, rows, plot in (("Small operations", worlds.MICRO, "micro"), ("Real work", worlds.LOADS, "macro")):
        cells = list(table_rows(figures, rows, names))
        if not cells:
            continue
        text.append(f"**{title}** (median of the rounds, half their range):")
        text.append("")
        text.append("| | " + " | ".join([worlds.WORLDS[world][0] for world in names] + ours + far) + " |")
        text.append("|---" * (1 + len(names) + len(ours) + len(far)) + "|")
        text += ["| " + " | ".join(row) + " |" for row in cells]
        if plot == "macro" and "native" in names:
            means = [mean_cell(figures, world) for world in names] + [""] * len(ours) + [mean_cell(figures, FAR)] * len(far)
            text.append("| geometric mean, native = 100 % (loads) | " + " | ".join(means) + " |")
        text.append("")
        if any(no_flush(row, world) and figures.median(row, world) for row in rows for world in names):
            text.append("No flush: UML's block device does not pass flushes on, so its writes are not on the host's disk; it is no peer there (`bench/README.md`).")
            text.append("")
        if plot in plots:
            text.append(f"![{title}: time as a multiple of native]({folder}{plot}.svg)")
            text.append("")
    return "\n".join(text)


# ---- plots ----

BAR_H, GROUP_GAP, LEFT, RIGHT, TOP, WIDTH = 9, 9, 265, 70, 66, 900


def escape(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def brief(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}" if value < 1 else f"{value:.3g}"


def ticks(low, high):
    return [m * 10.0**e for e in range(-3, 6) for m in (1, 2, 5) if low <= m * 10.0**e <= high]


def plot(figures, rows, title):
    """Bars from 1 (as fast as native) to the multiple of native's time, logarithmic."""
    names = [world for world in worlds.WORLDS if world != "native"]
    groups = []
    for row, entry in rows.items():
        bars = [(world, figures.slowdown(row, world)) for world in names]
        bars = [(world, value) for world, value in bars if value]
        if bars:
            groups.append((entry[0], bars))
    if not groups:
        return None
    values = [value for _, bars in groups for _, value in bars]
    low, high = min(0.5, min(values) / 1.5), max(2.0, max(values) * 1.1)  # room for the figures
    scale = (WIDTH - LEFT - RIGHT) / math.log(high / low)

    def x_of(value):
        return LEFT + scale * math.log(value / low)

    shown = [world for world in names if any(world == bar for _, bars in groups for bar, _ in bars)]
    height = TOP + sum(len(bars) * BAR_H + GROUP_GAP for _, bars in groups) + 30
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="DejaVu Sans, Verdana, sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="12" y="22" font-size="15" font-weight="bold">{escape(title)}</text>',
        '<text x="12" y="40" fill="#555">time as a multiple of native, logarithmic; shorter is better, left of 1 is faster than native</text>',
    ]
    x = LEFT
    for world in reversed(shown):
        name = worlds.WORLDS[world][0]
        out.append(f'<rect x="{x}" y="49" width="11" height="11" fill="{COLOURS[world]}"/><text x="{x + 16}" y="59">{escape(name)}</text>')
        x += 40 + 8 * len(name)
    bottom = height - 26
    last = -100.0
    for value in ticks(low, high):
        at = x_of(value)
        bold = value == 1
        out.append(f'<line x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{bottom}" stroke="{"#333" if bold else "#ddd"}"/>')
        if at - last > 30 or bold:
            out.append(f'<text x="{at:.1f}" y="{bottom + 16}" text-anchor="middle" fill="#333">{value:g}</text>')
            last = at
    y = TOP + GROUP_GAP / 2
    for name, bars in groups:
        middle = y + len(bars) * BAR_H / 2 + 4
        out.append(f'<text x="{LEFT - 10}" y="{middle:.1f}" text-anchor="end">{escape(name)}</text>')
        for world, value in reversed(bars):
            a, b = sorted((x_of(1), x_of(value)))
            out.append(f'<rect x="{a:.1f}" y="{y:.1f}" width="{max(b - a, 1.5):.1f}" height="{BAR_H - 1}" fill="{COLOURS[world]}"/>')
            side = f'x="{b + 4:.1f}"' if value >= 1 else f'x="{a - 4:.1f}" text-anchor="end"'
            out.append(f'<text {side} y="{y + BAR_H - 1.5:.1f}" font-size="9" fill="#333">{brief(value)}</text>')
            y += BAR_H
        y += GROUP_GAP
    out.append("</svg>")
    return "\n".join(out) + "\n"


def primitives(lines):
    tables = [line["primitives"] for line in lines if "primitives" in line]
    return tables[-1].strip() if tables else None


def costs(lines, figures):
    """For docs/performance.md: the host's own steps, and what LoL adds to native for each small operation."""
    text = [describe(lines), "", primitives(lines) or "bench/host-primitives was not run.", ""]
    text += ["| operation | native | LoL | LoL adds |", "|---|---|---|---|"]
    for row, entry in worlds.MICRO.items():
        native, own = figures.median(row, "native"), figures.median(row, "lol")
        if native and own:
            sign = "-" if own < native else ""
            text.append(f"| {entry[0]} | {amount(native, 'ns')} | {amount(own, 'ns')} | {sign}{amount(abs(own - native), 'ns')} |")
    return "\n".join(text) + "\n"


def between_markers(name, text, directory):
    """Replaces what is between the markers of the file NAME; TEXT is called with the way to DIRECTORY from there."""
    with open(name, encoding="utf-8") as file:
        old = file.read()
    if BEGIN not in old or END not in old:
        return [f"{os.path.basename(name)}: lacks the lines {BEGIN} and {END}"]
    part = text(os.path.relpath(os.path.realpath(directory), os.path.dirname(os.path.realpath(name))) + "/")
    with open(name, "w", encoding="utf-8") as file:
        file.write(old[:old.index(BEGIN) + len(BEGIN)] + "\n" + part + old[old.index(END):])
    return []


def write(lines, directory, top):
    """Writes table.md and the plots; with TOP, the sources' folder, README and docs/performance.md. Returns what is wrong with the figures, as lines."""
    figures = Figures(lines)
    plots = []
    for name, rows, title in (("micro", worlds.MICRO, "Small operations"), ("macro", worlds.LOADS, "Real work")):
        picture = plot(figures, rows, title)
        if picture:
            plots.append(name)
            with open(os.path.join(directory, name + ".svg"), "w", encoding="utf-8") as file:
                file.write(picture)
    problems = list(figures.problems())
    text = markdown(lines, figures, plots)
    if primitives(lines):
        text += f"\n**Steps of the host** (bench/host-primitives.c):\n\n{primitives(lines)}\n"
    if problems:
        text += "\nNot right: " + "; ".join(problems) + "\n"
    with open(os.path.join(directory, "table.md"), "w", encoding="utf-8") as file:
        file.write(text)
    if top:
        problems += between_markers(os.path.join(top, "README.md"), lambda folder: markdown(lines, figures, plots, folder), directory)
        problems += between_markers(os.path.join(top, "docs", "performance.md"), lambda _: costs(lines, figures), directory)
    return problems
