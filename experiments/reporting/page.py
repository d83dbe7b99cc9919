"""The whole page, from its parts."""

from collections.abc import Sequence
import re

from experiments.config import paper_settings, schema
from experiments.reporting import (
  between,
  episodes,
  further,
  markup,
  output,
  results,
  runs,
  style,
)


def render(groups: Sequence[runs.Group], out: output.Output) -> str:
  """The page as one HTML document; its files are written on the way."""
  sections = [
    results.results(groups, out),
    results.curves(groups, out),
    between.between_attempts(groups, out),
    *further.parts(groups, out),
    episodes.samples(groups),
    _settings(groups),
  ]
  sections = [section for section in sections if section]
  title = _title(groups)
  body = markup.element(
    'body',
    markup.element(
      'header',
      markup.element('h1', title),
      markup.element('p', _lead(groups), class_='lead'),
      results.tiles(groups),
      _contents(sections),
    ),
    markup.element('main', *sections),
    _footer(groups),
  )
  head = markup.element(
    'head',
    markup.element('meta', charset='utf-8'),
    markup.element(
      'meta', name='viewport', content='width=device-width, initial-scale=1'
    ),
    markup.element('title', title),
    markup.element('style', markup.Html(style.sheet())),
  )
  return f'<!doctype html>\n{markup.element("html", head, body, lang="en")}\n'


def _title(groups: Sequence[runs.Group]) -> str:
  tasks = dict.fromkeys(group.runs[0].settings.task for group in groups)
  return f'Learning to self-correct: {", ".join(tasks)}'


def _lead(groups: Sequence[runs.Group]) -> str:
  count = sum(len(group.runs) for group in groups)
  settings = groups[0].runs[0].settings
  if count == 1:
    return (
      f'{groups[0].name(groups[0].last_policy)}: one run (preset '
      f'{settings.preset}, seed {settings.seed}), measured on problems that it '
      'was not trained on.'
    )
  kinds = f'{len(groups)} settings, ' if len(groups) > 1 else ''
  group = runs.headline(groups)
  return (
    f'{count} runs ({kinds}preset {settings.preset}); the large numbers are of '
    f'{group.name(group.last_policy)}.'
  )


def _contents(sections: Sequence[markup.Html]) -> markup.Html:
  """Links to the sections."""
  links = [
    re.search(r'<section id="([^"]*)"><h2>(.*?)</h2>', section).groups()
    for section in sections
  ]
  return markup.element(
    'nav',
    *[
      markup.element('a', markup.Html(title), href=f'#{anchor}')
      for anchor, title in links
    ],
  )


def _settings(groups: Sequence[runs.Group]) -> markup.Html:
  """Settings beside the paper's: what differs from it, then all."""
  first = groups[0].runs[0].settings
  rows = paper_settings.rows(first)
  headings = ['Setting', 'Value', 'The paper, MATH', 'The paper, MBPP']
  others = [
    markup.join([f'{group.label}: ', _differences(first, group)])
    for group in groups[1:]
  ]
  return markup.section(
    'Settings',
    _table(headings, [row for row in rows if row.differs]),
    markup.element(
      'ul', *[markup.element('li', other) for other in others]
    ) if others else None,
    markup.element(
      'details',
      markup.element('summary', f'All {len(rows)} settings'),
      _table(headings, rows),
      *[
        markup.element('p', f'[{i}] {note}', class_='note')
        for i, note in enumerate(paper_settings.notes(), start=1)
      ],
    ),
    note='First, what is not as the paper states it for such a task'
    + (f' ({groups[0].label}).' if groups[0].label else '.'),
  )  # fmt: skip


def _table(
  headings: list[str], rows: Sequence[paper_settings.Row]
) -> markup.Html:
  return markup.table(
    headings,
    [[schema.flag(row.name), row.value, row.math, row.mbpp] for row in rows],
  )


def _differences(first: schema.Settings, group: runs.Group) -> str:
  ours = schema.flatten(first)
  theirs = schema.flatten(group.runs[0].settings)
  return ' '.join(
    f'{schema.flag(name)}={value}'
    for name, value in theirs.items()
    if value != ours[name] and name not in schema.FREE | {'seed'}
  )


def _footer(groups: Sequence[runs.Group]) -> markup.Html:
  paths = [str(run.directory.path) for group in groups for run in group.runs]
  versions = groups[0].runs[0].versions
  return markup.element(
    'footer',
    markup.element(
      'p',
      'Made by python -m experiments.report from ',
      ', '.join(paths),
      '. Pictures (PNG) and tables (CSV) are in report/.',
    ),
    markup.element(
      'p', ', '.join(f'{name} {version}' for name, version in versions.items())
    ),
    markup.element(
      'p',
      'Method: Kumar et al., Training Language Models to Self-Correct via '
      'Reinforcement Learning, ICLR 2025 (arXiv:2409.12917).',
    ),
  )
