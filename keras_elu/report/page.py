"""The page that compares runs: one file, without scripts, which needs no network."""

import base64
import html
import pathlib
from collections.abc import Sequence

from keras_elu.report import charts, runs
from keras_elu.report.runs import Group

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --page: #fff; --line: #d5d9de; --soft: #5b636d; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --page: #16181b; --line: #3a3f45; --soft: #a2a9b2; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 72rem; color: var(--ink); background: var(--page);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0.5rem 0; }
h2 { font-size: 1.15rem; margin: 2rem 0 0.5rem; }
p { margin: 0.4rem 0; color: var(--soft); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.35rem 0.9rem 0.35rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); overflow-wrap: normal; }
td { white-space: nowrap; }
th { font-weight: 600; min-width: 5rem; }
.key { display: inline-block; width: 0.7rem; height: 0.7rem; border-radius: 50%;
  margin-right: 0.4rem; }
@media (max-width: 40rem) {
  thead { display: none; }
  table, tbody, tr, th, td { display: block; border: 0; padding: 0; }
  tr { padding: 0.5rem 0; border-bottom: 1px solid var(--line); }
  td { display: flex; justify-content: space-between; gap: 1rem; white-space: normal; }
  td::before { content: attr(data-name); color: var(--soft); }
}
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr));
  gap: 1rem; }
.charts img { width: 100%; height: auto; display: block; }
"""


def write(groups: Sequence[Group], pictures: dict[str, dict[str, pathlib.Path]], accuracy) -> str:
    """Returns the page.

    Args:
        groups: The groups to compare.
        pictures: For each metric its pictures, by theme.
        accuracy: Validation accuracy for "time to" and "steps to"; None leaves these columns out.
    """
    count = sum(len(group.runs) for group in groups)
    configs = [group.config for group in groups]
    heading = " and ".join(
        dict.fromkeys(f"{c.get('recipe')} on {c.get('dataset')}" for c in configs)
    )
    parts = [
        f"<h1>{_text(heading)}</h1>",
        f"<p>{_plural(count, 'run')}, {_plural(len(groups), 'configuration')}. Numbers are means "
        "over the seeds ± standard deviation; curves are means, with the range over the seeds.</p>",
        "<h2>Results</h2>",
        _table([_named(groups, n, [*_results(group)]) for n, group in enumerate(groups)]),
        "<h2>Cost</h2>",
        _table([_named(groups, n, [*_costs(group, accuracy)]) for n, group in enumerate(groups)]),
        _explained(accuracy),
    ]
    if fields := runs.differing(configs):
        cells = [[(field, str(c.get(field))) for field in fields] for c in configs]
        parts += [
            "<h2>What differs</h2>",
            _table([_named(groups, n, row) for n, row in enumerate(cells)]),
        ]
    parts += ["<h2>Curves</h2>", '<div class="charts">']
    parts += [_picture(metric, of) for metric, of in pictures.items()]
    parts += ["</div>", "<h2>Runs</h2>"]
    parts += [_table([_run(run) for group in groups for run in group.runs])]
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>{_text(heading)}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _results(group: Group):
    results = [run.result for run in group.runs if run.result is not None]
    yield "runs", _complete(len(results), len(group.runs))
    for split in ("test", "validation"):
        for metric in dict.fromkeys(m for result in results for m in result[split]):
            values = [result[split][metric] for result in results if metric in result[split]]
            values = [value for value in values if value is not None]
            name = f"{split} {metric.replace('_', ' ')}"
            yield name, runs.spread(values, runs.form(metric, values))
    best = [result["best"] for result in results if result.get("best")]
    for metric in dict.fromkeys(m for of in best for m in of["test"]):
        values = [of["test"][metric] for of in best if of["test"].get(metric) is not None]
        name = f"test {metric.replace('_', ' ')} of the best epoch"
        yield name, runs.spread(values, runs.form(metric, values))


def _costs(group: Group, accuracy: float | None):
    def result(key):
        return group.numbers(lambda run: run.result and run.result.get(key))

    speeds = group.numbers(lambda run: run.images_per_second)
    yield "images/s", runs.spread(speeds, "{:,.0f}".format)
    yield "time", runs.spread(result("seconds"), duration)
    hours = group.numbers(lambda run: run.device_hours)
    yield "device-hours", runs.spread(hours, runs.form("device-hours", hours))
    if accuracy is None:
        return
    reached = [found for run in group.runs if (found := run.first(accuracy)) is not None]
    suffix = f" ({len(reached)} of {len(group.runs)})" if len(reached) < len(group.runs) else ""
    for key, name, form in (("seconds", "time", duration), ("steps", "steps", "{:,.0f}".format)):
        values = [found[key] for found in reached if key in found]
        if values or not reached:
            yield f"{name} to {accuracy:.1%}", runs.spread(values, form) + suffix


def _explained(accuracy: float | None) -> str:
    sentence = (
        "Images/s are medians over the epochs. A device-hour is one hour of one GPU, or of one "
        "worker without a GPU."
    )
    if accuracy is not None:
        sentence += (
            f" Time and steps to {accuracy:.1%} count up to the end of the first epoch with that "
            "validation accuracy."
        )
    return f"<p>{sentence}</p>"


def _run(run: runs.SavedRun) -> list[tuple[str, str]]:
    devices = run.environment.get("accelerators") or [run.environment.get("processor")]
    state = "complete" if run.result is not None else f"{len(run.history)} epochs so far"
    return [
        ("folder", _text(run.path)),
        ("seed", _text(run.config.get("seed"))),
        ("state", state),
        ("models", _text(_models(run))),
        ("started", _text(str(run.environment.get("started"))[:16].replace("T", " "))),
        ("device", _text(", ".join(map(str, dict.fromkeys(devices))))),
        ("commit", _text(str(run.environment.get("commit"))[:10])),
    ]


def _models(run: runs.SavedRun) -> str:
    """Says which file holds the model of which epoch."""
    if run.result is None:
        return "-"
    epochs, best = run.result["epochs"], run.result.get("best")
    early = ", stopped by its patience" if "stopped_after" in run.result else ""
    text = f"model.keras: epoch {epochs}, the last{early}"
    if best:
        text += f"; {best['model']}: epoch {best['epoch']}, the best by {best['metric']}"
    return text


def _named(groups: Sequence[Group], number: int, cells: list[tuple[str, str]]):
    colour = charts.COLOURS[number % len(charts.COLOURS)]
    name = f'<span class="key" style="background:{colour}"></span>{_text(groups[number].name)}'
    return [("", name), *((key, _text(value)) for key, value in cells)]


def _table(rows: list[list[tuple[str, str]]]) -> str:
    """Returns a table; a row is a list of named cells, whose first is its heading."""
    columns = list(dict.fromkeys(name for row in rows for name, _ in row))
    head = "".join(f'<th scope="col">{_text(name)}</th>' for name in columns)
    lines = []
    for row in rows:
        cells = dict(row)
        first = f'<th scope="row">{cells[columns[0]]}</th>'
        rest = "".join(
            f'<td data-name="{_text(name)}"><span>{cells.get(name, "-")}</span></td>'
            for name in columns[1:]
        )
        lines.append(f"<tr>{first}{rest}</tr>")
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _picture(metric: str, of: dict[str, pathlib.Path]) -> str:
    light, dark = (
        "data:image/png;base64," + base64.b64encode(of[theme].read_bytes()).decode()
        for theme in ("light", "dark")
    )
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{_text(charts.title(metric))} by epoch"></picture>'
    )


def duration(seconds: float) -> str:
    """Returns a time in the unit that is easiest to read.

    Example:

    >>> duration(7.4), duration(150), duration(40_000)
    ('7.4 s', '2.5 min', '11.1 h')
    """
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def _complete(complete: int, runs: int) -> str:
    return str(runs) if complete == runs else f"{complete} of {runs} complete"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def _text(value) -> str:
    return html.escape(str(value))
