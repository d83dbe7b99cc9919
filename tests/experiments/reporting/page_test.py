"""The page of a real run, read by a parser as a browser would read it."""

import csv
import html.parser
import json
import re
import shutil

import numpy as np
import pytest

from experiments import evaluate, report
from experiments.reporting import between, plots, runs
from experiments.reporting import page as page_lib
from experiments.run import run_directory, transcripts
from score_jax import types
from tests.support import small_run

NASTY = '<script>alert("x")</script> & <b>'
VOID = {'br', 'img', 'meta', 'col', 'link', 'input', 'hr'}


class Page(html.parser.HTMLParser):
  """Checks nesting while it reads; keeps texts, ids and references."""

  def __init__(self, text):
    super().__init__()
    self.open, self.ids, self.references, self.tags = [], [], [], []
    self.texts, self.tables = [], []
    self.feed(text)
    self.close()
    assert not self.open, f'never closed: {self.open}'

  def handle_starttag(self, tag, attrs):
    attributes = dict(attrs)
    self.tags.append(tag)
    self.ids += [attributes['id']] if 'id' in attributes else []
    for name in ('href', 'src', 'data', 'action', 'srcset', 'poster'):
      if name in attributes:
        self.references.append(attributes[name])
    if tag == 'table':
      self.tables.append([])
    if tag == 'tr':
      self.tables[-1].append([])
    if tag in ('td', 'th'):
      self.tables[-1][-1].append('')
    if tag not in VOID:
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.handle_starttag(tag, attrs)
    self.handle_endtag(tag)

  def handle_endtag(self, tag):
    assert self.open, f'</{tag}> without a beginning'
    last = self.open.pop()
    assert last == tag, f'<{last}> is closed by </{tag}>'

  def handle_data(self, data):
    self.texts.append(data)
    if {'td', 'th'} & set(self.open):
      self.tables[-1][-1][-1] += data + ' '


@pytest.fixture(name='run', scope='module')
def fixture_run(finished, tmp_path_factory):
  """A run with every kind of evaluation, and attempts that would be markup."""
  path = tmp_path_factory.mktemp('reported') / 'run'
  small_run.copy_to_edit(finished, path)
  for flags in (
    ('--attempts=4',),
    ('--scaling', '--samples=2', '--temperature=1.0', '--pass-at=1,2'),
    ('--by=longest_carry', '--compare=base', '--given-attempts=base'),
    ('--split=train', '--eval-problems=6', '--name=training'),
  ):
    assert evaluate.main([f'--run-dir={path}', *flags]) == 0
  episodes = path / 'stage2' / 'evaluation.jsonl'
  rows = [json.loads(line) for line in episodes.read_text().splitlines()]
  rows[0] |= {
    'question': NASTY, 'reference': NASTY, 'id': NASTY,
    'attempts': [NASTY, NASTY + 'more'], 'reasons': ['"><i>', ''],
    'labels': ['wrong', 'correct'], 'scores': [0.0, 1.0],
  }  # fmt: skip
  episodes.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return path


@pytest.fixture(name='out', scope='module')
def fixture_out(run, tmp_path_factory):
  path = tmp_path_factory.mktemp('report') / 'new' / 'folder'
  path.parent.mkdir()
  assert report.main([str(run), f'--output={path}']) == 0
  return path


@pytest.fixture(name='text', scope='module')
def fixture_text(out):
  return (out / 'report.html').read_text(encoding='utf-8')


def test_well_formed_with_every_part(text):
  page = Page(text)
  assert len(page.ids) == len(set(page.ids))
  for title in (
    'Results', 'Learning curves', 'Between the attempts', 'More attempts',
    'Inference scaling', 'Several samples', 'By difficulty',
    'Given first attempts', 'Other problems', 'Paired comparisons',
    'Transcripts', 'Settings',
  ):  # fmt: skip
    assert title in page.texts
  assert page.tags.count('svg') >= 8


def test_plots_take_the_pages_colours_and_share_no_ids():
  axes = plots.new_axes()
  axes.plot([0, 1], [0, 1], color=plots.COLOURS[1], label='a < b')
  plots.add_legend(axes)
  text = page_lib.inline_svg(axes.figure, 'one', 'a "line"')
  assert 'aria-label="a &#34;line&#34;"' in text
  assert 'var(--c2)' in text
  assert 'var(--ink)' in text
  for colour in (plots.COLOURS[1], plots.INK, plots.MUTED, plots.GRID):
    assert colour not in text
  assert 'a &lt; b' in text
  again = page_lib.inline_svg(axes.figure, 'two', '')
  ids = [set(re.findall(r'id="([^"]*)"', each)) for each in (text, again)]
  assert ids[0]
  assert not ids[0] & ids[1]


def test_needs_nothing_from_elsewhere(text):
  page = Page(text)
  assert page.references
  for reference in page.references:
    assert reference.startswith('#'), reference
    assert reference[1:] in page.ids
  assert not {'script', 'link', 'iframe', 'object', 'img'} & set(page.tags)
  for target in re.findall(r'url\(([^)]*)\)', text):
    assert target.startswith('#'), target
    assert target[1:] in page.ids
  assert '@import' not in text
  assert 'http' not in text


def test_what_users_write_is_text(text):
  page = Page(text)
  assert NASTY not in text
  assert '"><i>' not in text
  shown = ''.join(page.texts)
  # Problem, both attempts and the reference.
  assert shown.count(NASTY) == 5
  assert shown.count('more') >= 1


def test_the_numbers_are_those_of_the_run(text, run, out):
  results = small_run.results(run)
  table = Page(text).tables[0]
  assert [row[0].strip() for row in table[1:]] == [
    'Base', 'Stage I', 'Stage II (SCoRe)',
  ]  # fmt: skip
  for row, summary in zip(table[1:], results.values()):
    for cell, name in zip(row[1:], ('acc_t1', 'acc_t2', 'delta')):
      sign = '+' if name == 'delta' else ''
      assert cell.split()[0] == f'{100 * summary[name]:{sign}.1f}'
  with (out / 'report' / 'results.csv').open() as file:
    rows = list(csv.DictReader(file))
  assert len(rows) == 3 * 7  # five metrics, problems, ungraded
  for row in rows:
    assert float(row['value']) == results[row['policy']][row['metric']]


def test_transition_counts_are_those_of_the_transcripts(run, out):
  with (out / 'report' / 'transitions.csv').open() as file:
    rows = {row['policy']: row for row in csv.DictReader(file)}
  lines = (run / 'stage1' / 'evaluation.jsonl').read_text().splitlines()
  scores = [tuple(json.loads(line)['scores']) for line in lines]
  row = rows['Stage I']
  assert int(row['wrong_wrong']) == scores.count((0.0, 0.0))
  assert int(row['right_right']) == scores.count((1.0, 1.0))
  # The first episode of Stage II was made a corrected one.
  assert int(rows['Stage II (SCoRe)']['wrong_right']) >= 1


def test_other_problems_are_those_of_the_evaluation(run, out):
  kept = json.loads((run / 'evaluations' / 'training.json').read_text())
  with (out / 'report' / 'other-problems.csv').open() as file:
    rows = list(csv.DictReader(file))
  assert len(rows) == 3 * 5
  names = {'Base': 'base', 'Stage I': 'stage1', 'Stage II (SCoRe)': 'stage2'}
  for row in rows:
    measured = kept['policies'][names[row['policy']]]
    assert float(row['value']) == measured[row['metric']]
  with (out / 'report' / 'given-attempts.csv').open() as file:
    given = list(csv.DictReader(file))
  # Each policy's own corrections, then those of the base policy's attempts.
  assert [row['given'] for row in given] == ['its own', 'base'] * 3
  base = [row for row in given if row['policy'] == 'Base']
  assert base[0]['correction_rate'] == base[1]['correction_rate']


def test_pictures_and_tables_are_files_too(out):
  pictures = sorted(path.name for path in (out / 'report').glob('*.png'))
  assert {'curves-1.png', 'transitions-1-2.png', 'attempts-1.png'} <= set(
    pictures
  )
  for path in (out / 'report').glob('*.png'):
    assert path.read_bytes().startswith(b'\x89PNG')
  for path in (out / 'report').glob('*.csv'):
    with path.open() as file:
      heading, *rows = csv.reader(file)
    assert rows, path.name
    assert {len(row) for row in rows} == {len(heading)}, path.name


def test_the_same_page_again(text, run, tmp_path):
  assert report.main([str(run), f'--output={tmp_path}']) == 0
  assert (tmp_path / 'report.html').read_text(encoding='utf-8') == text


def altered(run, path, **changes):
  """A copy of a run that says it had other settings."""
  shutil.copytree(
    run, path, ignore=shutil.ignore_patterns('checkpoints', 'written.json')
  )
  config = json.loads((path / 'config.json').read_text())
  config['settings'] |= changes
  (path / 'config.json').write_text(json.dumps(config))
  return path


def test_seeds_are_one_line_with_spread_and_interval(run, tmp_path):
  # Another seed's base policy: the first attempts at all problems but one are
  # right, and nothing else changes.
  other = altered(run, tmp_path / 'other', seed=1)
  path = other / 'base' / 'evaluation.jsonl'
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  before = [row['scores'][0] for row in rows]
  after = [1.0] * 9 + [0.0]
  for row, score in zip(rows, after, strict=True):
    row['scores'][0] = score
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  results = small_run.results(other)
  results['base'] |= {'acc_t1': 0.9, 'acc_t1_ci95': [0.7, 1.0]}
  (other / 'results.json').write_text(json.dumps(results))
  out = tmp_path / 'out'
  assert report.main([str(run), str(other), f'--output={out}']) == 0
  page = Page((out / 'report.html').read_text())
  own = small_run.results(run)['base']['acc_t1']
  # Two values a and b: mean (a + b) / 2, standard deviation |a - b| / sqrt 2.
  mean, spread = (own + 0.9) / 2, abs(own - 0.9) / 2**0.5
  margin = 12.706 * spread / 2**0.5
  covariance = np.cov(before, after)[0, 1]
  margin = np.hypot(margin, 1.96 * np.sqrt(max(covariance, 0) / 10))
  low, high = max(mean - margin, 0), min(mean + margin, 1)
  said = [f'{100 * value:.1f}' for value in (mean, spread, low, high)]
  cell = page.tables[0][1][1]
  assert cell.split() == [
    said[0], f'±{said[1]}', f'[{said[2]},', f'{said[3]}]'
  ]  # fmt: skip
  text = ''.join(page.texts)
  assert 'Percent of 10 held-out problems, greedy; mean of 2 seeds' in text
  assert len(page.tables[0]) == 4
  # Counts are of the ten problems that both seeds are asked.
  between = next(t for t in page.tables if 'corrected' in t[0][2])
  for row in between[1:]:
    assert sum(float(cell) for cell in row[1:5]) == pytest.approx(10, abs=1)
  with (out / 'report' / 'transitions.csv').open() as file:
    lines = list(csv.DictReader(file))
  assert [line['seed'] for line in lines] == ['0', '1'] * 3
  # Both keep the same evaluations: one row a policy there, too.
  attempts = next(t for t in page.tables if t[0][1].strip() == '1')
  assert len(attempts) == 4
  assert '±0.0' in attempts[1][1]


def test_groups_are_told_apart_by_what_differs(run, tmp_path):
  others = [
    altered(run, tmp_path / 'a', alpha=3.0),
    altered(run, tmp_path / 'b', alpha=3.0, seed=2),
  ]
  out = tmp_path / 'out'
  arguments = [str(run), *map(str, others), f'--output={out}']
  assert report.main(arguments) == 0
  table = Page((out / 'report.html').read_text()).tables[0]
  labels = [row[0].strip() for row in table[1:]]
  # Group of one and group of two; each with its own base.
  assert 'alpha=10.0' in labels
  assert 'alpha=3.0' in labels
  assert labels[0] == 'Base'


def test_a_directory_of_runs(run, tmp_path):
  root = tmp_path / 'compared'
  for seed in (0, 1):
    (root / f'seed{seed}').mkdir(parents=True)
    for method in ('without_bonus', 'score', 'pair_sft'):
      path = root / f'seed{seed}' / method
      altered(run, path, seed=seed, method=method)
    # What a supervised method leaves: 4 updates of 16 of its 24 or 40 pairs.
    (path / 'stage2').rename(path / 'pair_sft')
    counts = {'repairs': 20, 'both_right': 4 + 16 * seed}
    (path / 'pair_sft' / 'pairs.json').write_text(json.dumps(counts))
    results = small_run.results(path)
    results = {'base': results['base'], 'pair_sft': results['stage2']}
    (path / 'results.json').write_text(json.dumps(results))
  assert report.main([str(root)]) == 0
  page = Page((root / 'report.html').read_text())
  labels = [' '.join(row[0].split()) for row in page.tables[0][1:]]
  # Base once, then what each method ended with, in the methods' order.
  assert labels == [
    'Base', 'Pair-SFT, D (1.6–2.7 epochs)', 'SCoRe', 'w/o reward shaping'
  ]  # fmt: skip
  text = ''.join(page.texts)
  assert 'mean of 2 seeds, ± their standard deviation' in text
  assert '; epochs: passes of supervised updates' in text


def test_the_page_says_what_the_normalized_bonus_makes_of_alpha(run, tmp_path):
  path = altered(run, tmp_path / 'normalized', normalize_bonus=True)
  assert report.main([str(path)]) == 0
  page = Page((path / 'report.html').read_text())
  # The last tables: what is not the paper's, the stages, all settings.
  deviating, stages, _ = page.tables[-3:]
  assert '--normalize-bonus' in [row[0].strip() for row in deviating]
  assert [row[0].strip() for row in stages] == ['Stage', 'stage1', 'stage2']
  remark = 'makes alpha = 10, alpha = 0 and multi-turn RL the same expected'
  assert remark in ''.join(page.texts)


def test_programs_of_the_prompts_function_are_told_apart(run, tmp_path):
  # HumanEval's attempts may go on with the prompt, and are no programs alone.
  path = altered(run, tmp_path / 'run', task='humaneval')
  (path / 'base' / 'evaluation.jsonl').unlink()
  prompt = 'def add(x):\n    """Adds one."""\n'
  columns = {'entry_point': 'add', 'prompt_code': prompt}
  log = transcripts.SamplesLog('base', path / 'base' / 'evaluation.jsonl')
  for name, second in (('same', 'return x + 1 # 1'), ('other', 'return x + 2')):
    texts = ('    return x + 1\n', f'    {second}\n')
    episode = transcripts.Episode(
      types.Problem(name, 'humaneval', prompt, '', columns),
      [types.Attempt(text, turn) for turn, text in enumerate(texts, start=1)],
      [types.Verdict('wrong', 0.0)] * 2,
    )
    log.write(0, [episode])
  log.close()
  (group,) = runs.make_groups([runs.read(str(path))])
  (changed,) = between.summarize(group.row('base'))
  assert changed.values['changed_answer'] == {'same': 0, 'other': 1}


def test_of_unfinished_comparisons(run, tmp_path):
  root = tmp_path / 'compared'
  first = altered(run, root / 'seed0' / 'score')
  second = altered(run, root / 'seed1' / 'score', seed=1)
  third = altered(
    run, root / 'seed0' / 'without_stage1', method='without_stage1'
  )
  # The second has only begun, the third has come to its base policy.
  (second / 'results.json').unlink()
  results = small_run.results(first)
  (third / 'results.json').write_text(json.dumps({'base': results['base']}))
  assert report.main([str(root)]) == 0
  page = Page((root / 'report.html').read_text())
  labels = [row[0].strip() for row in page.tables[0][1:]]
  assert labels == ['Base', 'SCoRe']


def test_of_one_run_it_lies_in_the_run(run):
  assert report.main([str(run)]) == 0
  assert (run / 'report.html').exists()
  assert (run / 'report' / 'results.csv').exists()
  # And the run is still one.
  assert run_directory.RunDirectory(run).read_settings().preset == 'tiny'


def test_paths_without_results_are_rejected(tmp_path, run, capsys):
  assert report.main([str(tmp_path)]) == 2
  assert 'no run' in capsys.readouterr().err
  path = altered(run, tmp_path / 'young')
  (path / 'results.json').unlink()
  assert report.main([str(path)]) == 2
  assert 'no results' in capsys.readouterr().err
  with pytest.raises(SystemExit) as stop:
    report.main([])
  assert stop.value.code == 2
