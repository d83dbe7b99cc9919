"""One self-contained HTML page about runs, with plots and tables as files."""

from collections.abc import Sequence
import os
import pathlib
from typing import Any

import jinja2

from experiments.config import paper_settings, schema
from experiments.reporting import (
  between,
  episodes,
  evaluations,
  page_output,
  results,
  runs,
  tables,
)
from score_jax.io import json_files

_TEMPLATES = jinja2.Environment(
  loader=jinja2.PackageLoader('experiments.reporting'),
  autoescape=True,
  trim_blocks=True,
  lstrip_blocks=True,
  undefined=jinja2.StrictUndefined,
)
_TEMPLATES.filters['shorten'] = episodes.shorten


def write(
  paths: Sequence[str | os.PathLike[str]], output: str | os.PathLike[str]
) -> page_output.Output:
  """Reads runs and writes the report; one process alone may do so.

  Args:
    paths: of runs, or of directories of runs.
    output: directory of report.html and report/.

  Raises:
    RunError: one of the paths holds no run, or no results yet.
  """
  found = [run for path in paths for run in runs.find(path)]
  groups = runs.make_groups([runs.read(path) for path in found])
  out = page_output.Output(pathlib.Path(output))
  page = _TEMPLATES.get_template('page.html.j2').render(_contents(groups, out))
  json_files.write_text(out.page, page)
  return out


def _contents(
  groups: Sequence[runs.Group], out: page_output.Output
) -> dict[str, Any]:
  """The values of the template's names; writes plots and tables on the way."""
  first = groups[0].runs[0]
  sections = [
    results.results(groups, out),
    results.curves(groups, out),
    between.between_attempts(groups, out),
    *evaluations.sections(groups, out),
  ]
  settings = paper_settings.rows(first.settings)
  tasks = dict.fromkeys(group.runs[0].settings.task for group in groups)
  return {
    'title': f'Learning to self-correct: {", ".join(tasks)}',
    'lead': _lead(groups),
    'tiles': results.tiles(groups),
    'sections': [section for section in sections if any(section.parts)],
    'temperature': first.settings.temperature,
    'transcripts': episodes.samples(groups),
    'compared': groups[0].label,
    'deviations': _table([row for row in settings if row.differs]),
    'settings': _table(settings),
    'footnotes': paper_settings.notes(),
    'other_groups': {g.label: _differences(first, g) for g in groups[1:]},
    'paths': [run.directory.path for group in groups for run in group.runs],
    'versions': first.versions,
  }


def _lead(groups: Sequence[runs.Group]) -> str:
  count = sum(len(group.runs) for group in groups)
  preset = f'preset {groups[0].runs[0].settings.preset}'
  group = runs.headline(groups)
  name = group.name(group.last_policy)
  if count == 1:
    seed = group.runs[0].settings.seed
    return (
      f'{name}: one run ({preset}, seed {seed}), measured on problems that it '
      'was not trained on.'
    )
  kinds = f'{len(groups)} settings, ' if len(groups) > 1 else ''
  return f'{count} runs ({kinds}{preset}); the large numbers are of {name}.'


def _table(rows: Sequence[paper_settings.Row]) -> tables.Table:
  texts = [(schema.flag(r.name), r.value, r.math, r.mbpp) for r in rows]
  return tables.Table(
    ['Setting', 'Value', 'The paper, MATH', 'The paper, MBPP'],
    [list(map(tables.Cell, row)) for row in texts],
  )


def _differences(first: runs.Run, group: runs.Group) -> str:
  """The flags that make a group another than the first run's."""
  return ' '.join(
    f'{schema.flag(name)}={value}'
    for name, value in group.runs[0].distinctive.items()
    if value != first.distinctive[name]
  )
