"""One self-contained HTML page about runs, with plots and tables as files."""

from collections.abc import Sequence
import itertools
import os
import pathlib
from typing import Any

import jinja2

from experiments.config import fields, paper_settings, stage_table
from experiments.reporting import (
  between,
  episodes,
  evaluations,
  page,
  results,
  runs,
  tables,
)
from experiments.run import transcripts
from score_jax.io import json_files

_TEMPLATES = jinja2.Environment(
  loader=jinja2.PackageLoader('experiments.reporting'),
  autoescape=True,
  trim_blocks=True,
  lstrip_blocks=True,
  undefined=jinja2.StrictUndefined,
)
_TEMPLATES.filters['shorten'] = episodes.shorten
_TEMPLATES.filters['reward_text'] = transcripts.reward_text


def write(
  paths: Sequence[str | os.PathLike[str]], output: str | os.PathLike[str]
) -> page.Output:
  """Reads runs and writes the report; one process alone may do so.

  Args:
    paths: of runs, or of directories of runs.
    output: directory of report.html and report/.

  Raises:
    RunError: one of the paths holds no run, or no results yet.
  """
  found = [run for path in paths for run in runs.find(path)]
  groups = runs.make_groups([runs.read(path) for path in found])
  out = page.Output(pathlib.Path(output))
  template = _TEMPLATES.get_template('page.html.j2')
  json_files.write_text(out.page, template.render(_contents(groups, out)))
  return out


def _contents(groups: runs.Groups, out: page.Output) -> dict[str, Any]:
  """The values of the template's names; writes plots and tables on the way."""
  first = groups[0].runs[0]
  sections = [
    results.results(groups, out),
    results.curves(groups, out),
    between.between_attempts(groups, out),
    *[make(groups, out) for make in evaluations.SECTIONS],
  ]
  settings = paper_settings.rows(first.settings)
  remarks = [paper_settings.remarks(g.runs[0].settings) for g in groups]
  return {
    'tasks': list(dict.fromkeys(g.runs[0].settings.task for g in groups)),
    'groups': groups,
    'headline': runs.headline(groups),
    'tiles': results.tiles(groups),
    'sections': [section for section in sections if any(section.parts)],
    'first': first,
    'transcripts': episodes.samples(groups),
    'deviations': _table([row for row in settings if row.differs]),
    'remarks': list(dict.fromkeys(itertools.chain(*remarks))),
    'settings': _table(settings),
    'stages': _stages(groups),
    'about_stages': stage_table.NOTE,
    'footnotes': paper_settings.notes(),
    'other_groups': {g.label: _differences(first, g) for g in groups[1:]},
    'runs': [run for group in groups for run in group.runs],
  }


def _table(rows: Sequence[paper_settings.Row]) -> tables.Table:
  texts = [(fields.flag(r.name), r.value, r.math, r.mbpp) for r in rows]
  return tables.Table(
    ['Setting', 'Value', 'The paper, MATH', 'The paper, MBPP'],
    [list(map(tables.Cell, row)) for row in texts],
  )


def _stages(groups: runs.Groups) -> tables.Table:
  """The stages of every group, a row each."""
  labels = [group.label for group in groups]
  heading = ['Run'] if any(labels) else []
  rows = [
    [tables.Cell(text) for text in ([label] if heading else []) + list(row)]
    for label, group in zip(labels, groups)
    for row in stage_table.rows(group.runs[0].settings)
  ]
  return tables.Table([*heading, *stage_table.HEADINGS], rows)


def _differences(first: runs.Run, group: runs.Group) -> str:
  """The flags that make a group another than the first run's."""
  return ' '.join(
    f'{fields.flag(name)}={value}'
    for name, value in group.runs[0].distinctive.items()
    if value != first.distinctive[name]
  )
