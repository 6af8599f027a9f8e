"""What the reader sees: the paper card, the ledger table, provenance. Floor: study."""

from __future__ import annotations

from html import escape

from papercore.assets import catalogue
from papercore.study import rooms
from papercore.study.claims import Claims

SIGNS = {"supported": "✔", "contradicted": "✘", "unresolved": "?", "void": "∅", "untested": "–"}


def card(slug: str):
    """The paper and what a run costs, from claims.yaml and the catalogue: shown before anything is fetched."""
    from IPython.display import Markdown

    claims = rooms.claims(slug)
    paper, known = claims.paper, catalogue()
    gpu = any(cost.gpu_gb for cost in claims.cost.values())  # one column the less where nobody needs one
    lines = [
        f"**{paper.title}**  \n{paper.authors}  \n{paper.venue}, [arXiv {paper.arxiv}](https://arxiv.org/abs/{paper.arxiv})"
        f"  \ncode: {paper.code}; licence: {paper.licence}",
        "",
        f"| profile | minutes | memory |{' GPU |' * gpu} download | disk | models and data (licence) |",
        "|---|---|---|---|---|---|" + "---|" * gpu,
    ]
    for profile, cost in claims.cost.items():
        size = sum(known[name].size for name in cost.models if name in known) / 1e6
        names = ", ".join(f"{name} ({known[name].licence})" if name in known else name for name in cost.models)
        download = f"{size:.0f} MB" if size else "see the model hub" if cost.models else "none"
        graphics = f" {cost.gpu_gb:g} GB |" if cost.gpu_gb else " – |" * gpu
        lines.append(
            f"| {profile} | {cost.minutes:g} | {cost.memory_gb:g} GB |{graphics} {download} | {cost.disk_gb:g} GB "
            f"| {'; '.join(filter(None, [names, cost.note])) or 'none'} |"
        )
    return Markdown("\n".join(lines))


def number(value: float | None) -> str:
    """A number to 4 significant digits, or a dash."""
    return "–" if value is None else f"{value:.4g}"


def _span(interval) -> str:
    return "" if interval is None else f" [{number(interval[0])}, {number(interval[1])}]"


def _reported(reported: dict) -> str:
    if "unknown" in reported:
        return f"unknown: {reported['unknown']}"
    value = reported["value"]
    text = ", ".join(number(v) for v in value) if isinstance(value, list) else number(value)
    return f"{text} {reported.get('unit', '')} ({reported['where']})"


def table(ledger: dict, claims: Claims) -> str:
    """The ledger as an HTML table: what the paper says and reports, what we measured, control, verdict."""
    head = "".join(f"<th>{h}</th>" for h in ("claim", "the paper's number", "ours", "control", "verdict"))
    body = []
    for row in ledger["claims"]:
        claim, control = claims[row["id"]], row["control"]
        ours = f"{number(row['statistic'])}{_span(row['interval'])}<br><small>{escape(row['rule'])}"
        if row["n"]:
            ours += f"<br>n = {row['n']} ({escape(row['unit'])})" + (
                f", {row['seeds']} seeds" if row["seeds"] > 1 else ""
            )
        ours += "<br><b>recorded</b>" if row["recorded"] else ""
        if control["arm"] == "none":
            against = f"none: {escape(claim.control.why)}"
        else:
            against = f"{escape(control['arm'])}: {number(control['statistic'])}{_span(control['interval'])}"
            against += f"<br><small>expected: {control['expect']}; same test: {control['outcome'] or '–'}</small>"
        reason = f"<br><small>{escape(row['reason'])}</small>" if row["reason"] else ""
        note = f"<br><small><i>{escape(claim.scale_note)}</i></small>" if claim.scale_note else ""
        cells = (
            f"<b>{row['id']}</b> ({row['kind']}) {escape(row['says'])}",
            escape(_reported(row["reported"])),
            f"{ours}</small>",
            against,
            f"{SIGNS[row['verdict']]} <b>{row['verdict']}</b>{reason}{note}",
        )
        body.append(
            "<tr>" + "".join(f'<td style="text-align:left;vertical-align:top">{c}</td>' for c in cells) + "</tr>"
        )
    above = "".join(f"<p><b>Warning:</b> {escape(text)}</p>" for text in ledger.get("warnings", []))
    return f"{above}<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def checked(ledger: dict) -> str:
    """One line a claim for nbval: n, statistic to 4 significant digits, outcome, control outcome."""
    rows = [("claim", "n", "statistic", "outcome", "control")]
    for row in ledger["claims"]:
        control = row["control"]["outcome"] or ("none" if row["control"]["arm"] == "none" else "-")
        rows.append((row["id"], str(row["n"] or "-"), number(row["statistic"]), row["outcome"] or "-", control))
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(r, widths, strict=True)).rstrip() for r in rows)


def provenance(block: dict) -> str:
    """Provenance as a Markdown table."""
    versions = ", ".join(f"{name} {version}" for name, version in block["versions"].items())
    hardware = ", ".join(f"{name} {value}" for name, value in block["hardware"].items())
    assets = "<br>".join(f"{a['name']} {a['revision']} `{a['sha256'][:12]}`" for a in block["assets"]) or "none"
    rows = {"versions": versions, "assets": assets, "hardware": hardware, "source": f"`{block['source_sha256'][:12]}`"}
    return "| | |\n|---|---|\n" + "\n".join(f"| {name} | {text} |" for name, text in rows.items())
