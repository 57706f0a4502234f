"""The tables of docs/benchmarks.md. `found` is `{load: {name: [measurement]}}` throughout, and
`labels` and `names` say what loads and proxies are called there."""

import statistics


def median(found, load, name, key):
    values = [one[key] for one in found[load][name]]
    return statistics.median(values) if values else None


def table(title, head, rows):
    print(f"\n{title}\n")
    print("| " + " | ".join(head) + " |")
    print("|---" + "|--:" * (len(head) - 1) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


def show(value, form):
    return "–" if value is None else form.format(value)


def tell_times(found, labels, names, base):
    """CPU, also as a ratio to the proxy `base` if there is one, and how long clients waited."""
    head = ["operation"] + list(names.values())

    def rows(key, form, unit=lambda load: 1):
        return [
            [label] + [show(divided(median(found, load, n, key), unit(load)), form) for n in names]
            for load, label in labels.items()
        ]

    table("CPU µs an operation", head, rows("cpu_us", "{:.1f}"))
    if base:
        ratios = rows("cpu_us", "{:.2f}", lambda load: median(found, load, base, "cpu_us"))
        table(f"CPU an operation as a ratio to {names[base]}", head, ratios)
    table("p50, µs", head, rows("p50_us", "{:.0f}"))
    table("p99, µs", head, rows("p99_us", "{:.0f}"))


def divided(value, unit):
    return value / unit if value and unit else None


def ratios(found, load, ours, theirs):
    """Of CPU, by round: neighbours in one round share its weather."""
    pairs = zip(found[load][ours], found[load][theirs])
    return [our["cpu_us"] / their["cpu_us"] for our, their in pairs]


def goal(label, most, ratios):
    """A row of the table of goals."""
    spread = f"{min(ratios):.2f}–{max(ratios):.2f}"
    return [label, most, f"{statistics.median(ratios):.2f}", spread]


def tell_goals(rows):
    if rows:
        table("Goals", ["operation", "at most", "median", "over the rounds"], rows)
