"""The matrix of faults and detectors as text and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .detectors import ALL
from .detectors.relations import EXPLAINS
from .gate import causes_of
from .inject import IN_THE_ROAD
from .matrix import Trial
from .thresholds import load


def read(path: Path) -> list[Trial]:
    """Trials kept by `matrix.save`; which gate follows from which is judged again, from the figures that were kept.

    Raises:
        ValueError: the file holds something else.
    """
    usual = load()["over-cleaned", "alone"].value
    found = []
    try:
        for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            trial = Trial(**{**row, "causes": tuple(row["causes"]), "consequences": tuple(row["consequences"])})
            if trial.excess:
                causes = causes_of(trial.excess, trial.cleaned, usual)
                which = [tuple(n for n, cause in causes.items() if bool(cause) is follows) for follows in (False, True)]
                trial = replace(trial, causes=which[0], consequences=which[1])
            found.append(trial)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: not trials kept by `trellis-gate faults --trials`") from error
    return found


def good(trials: Sequence[Trial]) -> bool:
    """Every fault caught by its own gate at its historic strength in every asset, and no clean control flagged."""
    return all(t.caught if t.fault else not t.causes for t in trials if (t.historic and not t.hidden) or not t.fault)


def _rows(trials: Sequence[Trial]) -> list[tuple[str, str, list[Trial]]]:
    rows: dict[tuple[str, str], list[Trial]] = {}
    for t in trials:
        if t.fault and not t.hidden:
            rows.setdefault((t.fault, t.strength), []).append(t)
    order = {d.name: i for i, d in enumerate(ALL)}
    keyed = sorted(rows.items(), key=lambda kv: (order.get(kv[0][0], 99), kv[0][1] == IN_THE_ROAD))
    return [(fault, strength, found) for (fault, strength), found in keyed]


def _also(trials: Sequence[Trial]) -> str:
    others: dict[str, int] = {}
    for t in trials:
        for name in t.causes:
            if name != t.fault:
                others[name] = others.get(name, 0) + 1
    return ", ".join(f"{name} {n}" for name, n in sorted(others.items(), key=lambda kv: -kv[1]))


def markdown(trials: Sequence[Trial]) -> str:
    """One row a fault and strength: how often its own gate, and only it, named the cause; false alarms below."""
    out = [
        "| fault | strength | caught by its gate | named alone | other causes named |",
        "|---|---|---|---|---|",
    ]
    for fault, strength, found in _rows(trials):
        label = f"**{strength}**" if found[0].historic and strength != IN_THE_ROAD else strength
        caught = f"{sum(t.caught for t in found)}/{len(found)}"
        out.append(f"| `{fault}` | {label} | {caught} | {sum(t.exact for t in found)}/{len(found)} | {_also(found)} |")
    clean = [t for t in trials if not t.fault]
    flagged = [t for t in clean if t.causes]
    named = ", ".join(f"{t.asset}: {' '.join(t.causes)}" for t in flagged)
    out += [
        "",
        f"Clean controls: {len(clean)}, flagged: {len(flagged)}{f' ({named})' if named else ''}.",
        *hidden(trials),
    ]
    return "\n".join(out)


def hidden(trials: Sequence[Trial]) -> list[str]:
    """Which faults were not put into which assets, and by which property these could not show them."""
    found = [f"- `{t.fault}` {t.strength}, {t.asset}: {t.hidden}" for t in trials if t.hidden]
    return ["", "Not put in, as it could not be seen:", "", *found] if found else []


def relations(trials: Sequence[Trial]) -> str:
    """Every relation between gates, its reason, and in how many trials a second gate would be red without it."""
    out = ["| fault | also turns on | because | needed in |", "|---|---|---|---|"]
    for cause, follows in EXPLAINS.items():
        for name, why in follows.items():
            n = sum(t.exact and t.fault == cause and name in t.consequences for t in trials)
            out.append(f"| `{cause}` | `{name}` | {why} | {n} |")
    return "\n".join(out)


def pairs(trials: Sequence[Trial]) -> str:
    """Two faults at once: in how many trials both were named, and each in which one was not, or another was."""
    shown = [t for t in trials if not t.hidden]
    out = [
        f"{len(shown)} trials, both named in {sum(t.caught for t in shown)}, and no other in {sum(t.exact for t in shown)}."
    ]
    out += [
        f"{t.fault} in {t.asset}: {', '.join(t.causes) or 'nothing'} (following: {', '.join(t.consequences) or 'nothing'})"
        for t in shown
        if not t.exact
    ]
    return "\n".join(out + hidden(trials))


def text(trials: Sequence[Trial]) -> str:
    """The same for a terminal."""
    lines = []
    for fault, strength, found in _rows(trials):
        mark = "*" if found[0].historic else " "
        caught, exact = sum(t.caught for t in found), sum(t.exact for t in found)
        lines.append(
            f"{fault:24}{mark}{strength:14} caught {caught}/{len(found)}  alone {exact}/{len(found)}  {_also(found)}"
        )
    clean = [t for t in trials if not t.fault]
    lines.append(f"clean controls: {len(clean)}, flagged: {sum(bool(t.causes) for t in clean)}  (* historic strength)")
    return "\n".join(lines)


def shown(trials: Sequence[Trial]) -> str:
    """For faults that must be named alone: a row a fault and place, its assets, the sentence, where the road began to differ."""
    out = [
        "| fault | put into | named alone in | what the gate says (of the first) | where it began |",
        "|---|---|---|---|---|",
    ]
    for fault, strength, found in _rows(trials):
        alone = [t for t in found if t.exact]
        others = "".join(f"; {t.asset}: {', '.join(t.causes) or 'nothing'}" for t in found if not t.exact)
        place = strength if strength == IN_THE_ROAD else f"the GLB, {strength}"
        said = alone[0] if alone else found[0]
        out.append(
            f"| `{fault}` | {place} | {', '.join(t.asset for t in alone)}{others} | {said.sentence} | {said.first_stage} |"
        )
    clean = [t for t in trials if not t.fault]
    flagged = "; ".join(f"{t.asset}: {', '.join(t.causes)}" for t in clean if t.causes)
    out += ["", f"Without a fault: {len(clean)} assets, flagged: {flagged or 'none'}.", *hidden(trials)]
    return "\n".join(out)


def not_shown(trials: Sequence[Trial], faults: Sequence[str]) -> list[str]:
    """What is wrong with trials in which each fault should be named by its own gate alone; nothing when all is right."""
    wrong = [
        f"{t.asset}: {t.fault or 'sound'} ({t.strength}): the gates named {', '.join(t.causes) or 'nothing'}"
        + (f"; {t.sentence}" if t.sentence and not t.caught else "")
        for t in trials
        if not t.hidden and (not t.exact if t.fault else t.causes)
    ]
    tried = {t.fault for t in trials if not t.hidden}
    return wrong + [f"{fault}: no asset takes it, so nothing was tried" for fault in faults if fault not in tried]
