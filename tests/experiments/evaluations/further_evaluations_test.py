"""What an evaluation measures beyond the five metrics, and what it keeps."""

import json
import shutil

import pytest

from experiments import evaluate
from experiments.evaluations import (
  evaluation_options,
  kept_evaluations,
)
from experiments.run import run_directory
from tests.support import small_run


@pytest.fixture(name='run', scope='module')
def fixture_run(finished, tmp_path_factory):
  """A copy of the finished run that may be written to."""
  path = tmp_path_factory.mktemp('evaluated') / 'run'
  shutil.copytree(finished, path)
  return path


def kept(run, *flags):
  """What an evaluation with these flags keeps."""
  ours = {run / 'evaluations' / 'written.json'}
  before = set((run / 'evaluations').glob('*.json'))
  assert evaluate.main([f'--run-dir={run}', *flags]) == 0
  (path,) = set((run / 'evaluations').glob('*.json')) - before - ours
  return json.loads(path.read_text())


def lines(run, policy):
  text = (run / policy / 'evaluation.jsonl').read_text()
  return [json.loads(line) for line in text.splitlines()]


def test_more_attempts_begin_with_the_runs_own(run):
  evaluation = kept(run, '--attempts=5', '--policy=stage2')
  assert evaluation['name'] == 'attempts-5'
  assert evaluation['options']['attempts'] == 5
  measured = evaluation['policies']['stage2']
  assert {f'acc_t{k}' for k in range(1, 6)} <= set(measured)
  own = small_run.results(run)['stage2']
  for name in ('acc_t1', 'acc_t2', 'delta', 'i_to_c', 'c_to_i'):
    assert measured[name] == own[name]


def test_one_attempt_needs_no_second(run):
  measured = kept(run, '--attempts=1', '--policy=base')['policies']['base']
  assert measured['acc_t1'] == small_run.results(run)['base']['acc_t1']
  assert not {'acc_t2', 'delta', 'changes'} & set(measured)


def test_samples_votes_and_scaling(run, capsys):
  evaluation = kept(
    run, '--scaling', '--samples=4', '--pass-at=1,4', '--majority-at=4',
    '--temperature=1.5', '--policy=base',
  )  # fmt: skip
  measured = evaluation['policies']['base']
  assert measured['scaling']['budgets'] == [2, 4]
  assert measured['scaling']['vote'] == 'last'
  # pass@1 is the accuracy; more tries or votes of all can be read off, too.
  for turn in ('t1', 't2'):
    single = measured['pass_at']['1'][turn]
    assert single == pytest.approx(measured[f'acc_{turn}'])
    assert measured['pass_at']['4'][turn] >= single
  majority = measured['majority_at']['4']['t1']
  assert majority == measured['scaling']['parallel'][1]
  said = capsys.readouterr().out
  assert 'pass@k' in said
  assert 'base: majority votes' in said


def test_groups_add_up(run):
  evaluation = kept(run, '--by=longest_carry', '--policy=stage1')
  measured = evaluation['policies']['stage1']
  groups = measured['by']['groups']
  assert sum(held['problems'] for held in groups.values()) == 10
  total = sum(held['problems'] * held['acc_t2'] for held in groups.values())
  assert total / 10 == pytest.approx(measured['acc_t2'])


def test_changes_are_those_of_the_transcripts(run):
  evaluation = kept(run, '--name=plain', '--policy=stage2')
  changes = evaluation['policies']['stage2']['changes']
  episodes = lines(run, 'stage2')
  outcomes = [tuple(episode['scores']) for episode in episodes]
  assert changes['transitions'] == {
    'right_right': outcomes.count((1.0, 1.0)),
    'wrong_right': outcomes.count((0.0, 1.0)),
    'right_wrong': outcomes.count((1.0, 0.0)),
    'wrong_wrong': outcomes.count((0.0, 0.0)),
  }
  same = sum(e['attempts'][0] == e['attempts'][1] for e in episodes)
  assert changes['frac_identical'] == same / 10


def test_given_attempts_of_a_file(run, tmp_path, caplog):
  # Right answers and a wrong one as first attempts; one problem has none.
  episodes = lines(run, 'base')[:5]
  rows = [
    {'id': e['id'], 'given_attempt': e['reference']} for e in episodes[:4]
  ]
  rows[0]['given_attempt'] = '00' if episodes[0]['reference'] != '00' else '11'
  rows.append({'id': rows[1]['id'], 'given_attempt': 'another'})
  path = tmp_path / 'given.jsonl'
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  evaluation = kept(run, f'--given-attempts={path}', '--policy=base')
  measured = evaluation['policies']['base']
  assert measured['problems'] == 4
  assert measured['acc_t1'] == 3 / 4
  assert '1 rows are further attempts' in caplog.text
  assert '6 of 10 problems have no given attempt' in caplog.text


def test_given_attempts_of_a_policy(run):
  # The base policy corrects its own first attempts: nothing new.
  evaluation = kept(run, '--given-attempts=base')
  own = small_run.results(run)
  assert evaluation['policies']['base']['acc_t2'] == own['base']['acc_t2']
  for policy in ('stage1', 'stage2'):
    measured = evaluation['policies'][policy]
    assert measured['acc_t1'] == own['base']['acc_t1']
  # Another run's policy, and other problems than that run was evaluated on.
  training = kept(
    run, f'--given-attempts={run}/base', '--split=train', '--name=train',
    '--policy=stage2',
  )['policies']['stage2']  # fmt: skip
  # All 80 that are not held out, but for attempts without a character.
  assert 70 <= training['problems'] <= 80


def test_comparisons_are_paired(run, capsys):
  evaluation = kept(run, '--compare=base')
  comparison = evaluation['comparison']
  own = small_run.results(run)
  assert comparison['against'] == 'base'
  assert set(comparison['tests']) == {'stage1', 'stage2'}
  test = comparison['tests']['stage2']
  assert test['problems'] == 10
  for name in ('acc_t1', 'acc_t2', 'delta'):
    difference = own['stage2'][name] - own['base'][name]
    assert test[name]['difference'] == pytest.approx(difference)
    assert 0 < test[name]['p_value'] <= 1
  assert 'paired by problem' in capsys.readouterr().out
  # The same policy under another path is the same: no difference.
  other = kept(run, f'--compare={run}/stage2', '--policy=stage2', '--name=own')
  assert other['comparison']['tests'] == {}


def test_your_own_problems(run, tmp_path):
  rows = [{'sum': f'{a}+3', 'answer': f'{a + 3:02d}'} for a in range(3)]
  path = tmp_path / 'sums.jsonl'
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  evaluation = kept(
    run, f'--data.file={path}', '--data.question=sum',
    '--data.reference=answer', '--policy=base',
  )  # fmt: skip
  assert evaluation['name'] == 'data-sums'
  assert evaluation['policies']['base']['problems'] == 3


def test_another_task(run, tmp_path):
  rows = [{'id': i, 'question': f'{i}+3', 'reference': '#'} for i in range(3)]
  path = tmp_path / 'numbers.jsonl'
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  evaluation = kept(
    run, '--task=records', f'--data.file={path}', '--data.grader=number',
    '--policy=base', '--first-prompt={question}', '--instruction=Again',
  )  # fmt: skip
  assert evaluation['policies']['base']['acc_t1'] == 0.0


def test_kept_under_a_name(run):
  assert kept(run, '--name=again', '--policy=base')['name'] == 'again'
  directory = run_directory.RunDirectory(run)
  names = [each['name'] for each in kept_evaluations.read_all(directory)]
  assert 'again' in names
  assert names == sorted(names)
  broken = run / 'evaluations' / 'broken.json'
  broken.write_text('{')
  with pytest.raises(run_directory.RunError, match=r'broken\.json is dama'):
    kept_evaluations.read_all(directory)
  broken.unlink()


@pytest.mark.parametrize(
  ('flags', 'says'),
  [
    (['--attempts=0'], '--attempts=0: must be in [1, 50]'),
    (['--pass-at=2'], '--pass-at=2: must be numbers in [1, 1]'),
    (['--pass-at=few'], '--pass-at=few: must be numbers'),
    (['--scaling', '--attempts=1'], '--attempts=1 has no second'),
    (['--name=a/b'], 'must be a file name'),
    (['--samples=2', '--temperature=1', '--majority-at=1,3'], '[1, 2]'),
  ],
)
def test_mistakes_are_rejected(run, flags, says, capsys):
  with pytest.raises(SystemExit) as stop:
    evaluate.main([f'--run-dir={run}', *flags])
  assert stop.value.code == 2
  assert says in capsys.readouterr().err


@pytest.mark.parametrize(
  ('flags', 'says'),
  [
    (['--by=level'], '--by=level: problem '),
    (['--by=level'], "has no column 'level'; it has: a, b"),
    (['--given-attempts=stage9'], "no finished policy 'stage9'"),
    (['--compare=elsewhere/stage1'], 'elsewhere is no run that could have'),
    (['--given-attempts=no/such.jsonl'], 'and there is no such file'),
    (['--data.file=nowhere.jsonl'], 'nowhere.jsonl'),
  ],
)
def test_what_is_not_there(run, flags, says, capsys):
  assert evaluate.main([f'--run-dir={run}', '--policy=base', *flags]) == 2
  assert says in capsys.readouterr().err


def test_scaling_completes_the_options():
  complete = evaluation_options.parse(['--scaling'], '')
  assert (complete.samples, complete.temperature) == (32, 0.7)
  own = ['--scaling', '--samples=8', '--temperature=1.0']
  options = evaluation_options.parse(own, '')
  assert (options.samples, options.temperature) == (8, 1.0)


def test_names_tell_evaluations_apart():
  options = evaluation_options.Options
  assert evaluation_options.name_of(options()) == ''
  sampled = options(samples=4, temperature=1.0)
  assert evaluation_options.name_of(sampled) == 'temperature-1'
  assert evaluation_options.name_of(options(name='mine', attempts=3)) == 'mine'
  asked = options(by='level', compare='runs/other/stage2', split='train')
  name = evaluation_options.name_of(asked)
  assert name == 'train_by-level_against-other-stage2'
  file = options(given_attempts='data/wrong.jsonl', pass_at='1,8')
  assert evaluation_options.name_of(file) == 'given-data-wrong_pass-1-8'
