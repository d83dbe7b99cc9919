"""results.json and what is drawn and printed from it."""

import io
import json

import pytest
from rich import console as rich_console

from experiments import evaluate
from experiments.reporting import final_report
from experiments.run import building, outcome, run_directory
from tests.support import small_run


@pytest.fixture
def copied(finished, tmp_path):
  path = tmp_path / 'run'
  small_run.copy_to_edit(finished, path)
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


REWARDS = """
def reward(attempt, turn):
  open(__file__ + '.called', 'w').close()
  return turn + 0.25 * (attempt[:1] == '0')

def wants(attempt, level):
  return reward(attempt, level)
"""


@pytest.fixture
def rewards(tmp_path):
  path = tmp_path / 'rewards.py'
  path.write_text(REWARDS)
  return path


def evaluate_base(finished, path, *flags):
  flags = ('--method=base', *flags)
  small_run.begin_from_base(finished, path, *flags)
  return small_run.main(path, *flags)


def test_accuracies_are_the_tasks_whatever_is_rewarded(
  finished, tmp_path, rewards, capsys
):
  path = tmp_path / 'run'
  assert evaluate_base(finished, path, f'--reward={rewards}:reward') == 0
  numbers = small_run.results(path)['base']
  apart = {name: numbers.pop(name) for name in ('reward_t1', 'reward_t2')}
  # All attempts have a reward of at least 1, and few are right.
  assert numbers == small_run.results(finished)['base']
  lines = (path / 'base' / 'evaluation.jsonl').read_text().splitlines()
  records = [json.loads(line) for line in lines]
  for k in (0, 1):
    texts = [record['attempts'][k] for record in records]
    by_hand = [k + 1 + 0.25 * text.startswith('0') for text in texts]
    assert [record['rewards'][k] for record in records] == by_hand
    mean = sum(by_hand) / len(by_hand)
    assert apart[f'reward_t{k + 1}'] == pytest.approx(mean)
  said = capsys.readouterr().out
  assert 'Training reward' in said
  assert f'{apart["reward_t2"]:.3g}' in said
  page = (path / 'report.html').read_text()
  assert 'Training reward' in page
  assert 'Reward@t1' in page
  # It is in no table of percents.
  assert 'reward_t1' not in page


def test_a_reward_that_decides_what_is_correct_is_stated(
  finished, tmp_path, rewards, capsys
):
  path = tmp_path / 'run'
  flags = (f'--reward={rewards}:reward', '--correct-from-reward=2')
  assert evaluate_base(finished, path, *flags) == 0
  numbers = small_run.results(path)['base']
  assert (numbers['acc_t1'], numbers['acc_t2']) == (0.0, 1.0)
  stated = 'correct is a training reward of at least 2'
  assert stated in ' '.join(capsys.readouterr().out.split())
  assert stated in (path / 'report.html').read_text()
  assert evaluate.main([f'--run-dir={path}']) == 0
  said = ' '.join(capsys.readouterr().out.split())
  assert stated in said
  assert 'the same numbers as in results.json' in said


def test_a_missing_column_ends_the_run_before_it_begins(
  finished, tmp_path, rewards, capsys
):
  path = tmp_path / 'run'
  asked = [f'--reward={rewards}:reward', f'{rewards}:wants']
  assert evaluate_base(finished, path, *asked) == 2
  [line] = capsys.readouterr().err.strip().splitlines()
  assert line.startswith('error: the reward function asks for level, which')
  assert not (tmp_path / 'rewards.py.called').exists()
  assert not (path / 'results.json').exists()


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
