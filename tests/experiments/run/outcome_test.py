"""results.json and what is drawn and printed from it."""

import io
import json
import shutil

import pytest
from rich import console as rich_console

from experiments.reporting import final_report
from experiments.run import building, outcome, run_directory
from tests.support import small_run


@pytest.fixture
def copied(finished, tmp_path):
  path = tmp_path / 'run'
  shutil.copytree(finished, path)
  return run_directory.RunDirectory(path)


def report(run):
  console = rich_console.Console(file=io.StringIO(), width=120)
  final_report.report(building.reopen(run, console))
  return console.file.getvalue()


def test_the_report_says_what_and_where(copied):
  copied.curves.unlink()
  said = report(copied)
  for text in ('Base', 'Stage I', 'Stage II (SCoRe)', 'Accuracy@t1', 'Δ i→c'):
    assert text in said
  for name in (
    'results.json', 'curves.png', 'report.html', 'config.json', 'stage2'
  ):  # fmt: skip
    assert f'{copied.path}/{name}' in said
  assert f'python -m experiments.chat --run-dir={copied.path}' in said
  assert copied.curves.read_bytes().startswith(b'\x89PNG')


def test_telling_episodes_come_first(copied):
  rows = [
    ('a', 1.0, 1.0), ('b', 0.0, 0.0), ('c', 0.0, 1.0),
    ('d', 1.0, 0.0), ('e', 0.0, 1.0),
  ]  # fmt: skip
  labels = {0.0: 'wrong', 1.0: 'correct'}
  lines = [
    {
      'stage': 'stage2', 'step': 0, 'id': name, 'question': name,
      'reference': '1', 'attempts': ['1', '2'], 'finished': [True, True],
      'labels': [labels[a], labels[b]], 'scores': [a, b], 'reasons': ['', ''],
    }
    for name, a, b in rows
  ]  # fmt: skip
  path = copied.stage('stage2').path / 'evaluation.jsonl'
  path.write_text(''.join(json.dumps(line) + '\n' for line in lines))
  found = final_report._telling_episodes(copied.stage('stage2'))
  # Corrected, not corrected, spoilt: one of each, the first that there is.
  assert [episode.problem.id for episode in found] == ['c', 'b', 'd']


def test_results_are_those_of_the_transcripts(finished):
  results = small_run.results(finished)
  for name, numbers in results.items():
    path = finished / name / 'evaluation.jsonl'
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(records) == numbers['problems']
    scores = [record['scores'] for record in records]
    assert numbers['acc_t1'] == pytest.approx(
      sum(a for a, _ in scores) / len(scores)
    )
    assert numbers['i_to_c'] == pytest.approx(
      sum(a < b for a, b in scores) / len(scores)
    )
    # Greedy decoding reads no reward and no reference.
    for record in records:
      right = [
        float(text == record['reference']) for text in record['attempts']
      ]
      assert record['scores'] == right


def test_another_number_of_problems_is_evaluated_again(copied):
  run = building.reopen(copied)
  assert outcome.is_complete(run, run.stages)
  results = small_run.results(copied.path)
  results['stage1']['problems'] = 5
  copied.results.write_text(json.dumps(results))
  assert not outcome.is_complete(run, run.stages)


def test_a_stage_that_goes_on_loses_its_result(copied):
  run = building.reopen(copied)
  outcome.forget(run, 'stage2')
  assert list(small_run.results(copied.path)) == ['base', 'stage1']
  outcome.forget(run, 'stage2')
  assert not outcome.is_complete(run, run.stages)


def test_nothing_is_drawn_without_steps(copied):
  for name in ('stage1', 'stage2'):
    copied.stage(name).metrics.write_text('')
  copied.curves.unlink()
  assert 'Accuracy@t1' in report(copied)
  assert not copied.curves.exists()
