"""A finished run's policies, evaluated again."""

import json

import pytest

from experiments import evaluate
from tests.support import small_run


def snapshot(path):
  return {
    file.relative_to(path): file.read_bytes()
    for file in path.rglob('*')
    if file.is_file()
  }


def test_the_same_numbers_again(finished, tmp_path, capsys):
  before = snapshot(finished)
  output = tmp_path / 'again.json'
  code = evaluate.main([f'--run-dir={finished}', f'--output={output}'])
  assert code == 0
  assert json.loads(output.read_text()) == small_run.results(finished)
  # The run itself is as it was.
  assert snapshot(finished) == before
  said = capsys.readouterr().out
  assert 'Accuracy@t2' in said
  for name in ('base', 'stage1', 'stage2'):
    assert f'{name}: the same numbers as in results.json' in said


def test_one_policy_and_fewer_problems(finished, capsys, tmp_path):
  output = tmp_path / 'one.json'
  code = evaluate.main(
    [f'--run-dir={finished}', '--policy=stage1', '--eval-problems=4',
     f'--output={output}']
  )  # fmt: skip
  assert code == 0
  numbers = json.loads(output.read_text())
  assert list(numbers) == ['stage1']
  assert numbers['stage1']['problems'] == 4
  # The first four of the ten, as the run's own evaluation graded them.
  lines = (finished / 'stage1' / 'evaluation.jsonl').read_text().splitlines()
  scores = [json.loads(line)['scores'] for line in lines[:4]]
  for turn in (0, 1):
    accuracy = sum(score[turn] for score in scores) / 4
    assert numbers['stage1'][f'acc_t{turn + 1}'] == accuracy
  said = capsys.readouterr().out
  assert 'Base' not in said
  assert 'same numbers' not in said


def test_sampled_episodes(finished, tmp_path):
  output = tmp_path / 'sampled.json'
  code = evaluate.main(
    [f'--run-dir={finished}', '--policy=base', '--temperature=2.0',
     '--samples=3', f'--output={output}']
  )  # fmt: skip
  assert code == 0
  numbers = json.loads(output.read_text())['base']
  assert numbers['problems'] == 10
  # Thirty episodes.
  thirtieths = 30 * numbers['acc_t1']
  assert thirtieths == pytest.approx(round(thirtieths))


def test_other_numbers_are_called_other(finished, tmp_path, capsys):
  path = tmp_path / 'run'
  small_run.copy_to_edit(finished, path)
  results = small_run.results(path)
  results['base']['acc_t1'] += 0.1
  (path / 'results.json').write_text(json.dumps(results))
  assert evaluate.main([f'--run-dir={path}', '--policy=base']) == 0
  assert 'base: OTHER numbers than in results.json' in capsys.readouterr().out


@pytest.mark.parametrize(
  ('arguments', 'says'),
  [
    (['--samples=4'], 'give a --temperature'),
    (['--samples=0'], '--samples=0: must be at least 1'),
    (['--eval-problems=0'], '--eval-problems=0: must be at least 1'),
    (['--temperature=-1'], '--temperature=-1.0: must be at least 0'),
    (['--polcy=base'], '--polcy'),
    (['--output=/nowhere/at/all.json'], 'there is no /nowhere/at'),
  ],
)
def test_mistakes_are_rejected(finished, arguments, says, capsys):
  with pytest.raises(SystemExit) as stop:
    evaluate.main([f'--run-dir={finished}', *arguments])
  assert stop.value.code == 2
  assert says in capsys.readouterr().err


def test_what_is_not_there(finished, tmp_path, capsys):
  assert evaluate.main([f'--run-dir={tmp_path}']) == 2
  assert 'holds no run' in capsys.readouterr().err
  assert evaluate.main([f'--run-dir={finished}', '--policy=stage3']) == 2
  message = capsys.readouterr().err
  assert "no finished policy 'stage3'; it has: base, stage1, stage2" in message
  assert f'python -m experiments.train --preset=tiny --run-dir={finished}' in (
    message
  )
  path = small_run.begin_from_base(finished, tmp_path / 'begun')
  assert evaluate.main([f'--run-dir={path}', '--policy=stage1']) == 2
  assert 'it has: base.' in capsys.readouterr().err
  (path / 'tokenizer.model').unlink()
  assert evaluate.main([f'--run-dir={path}']) == 2
  assert 'tokenizer.model; go on with it' in capsys.readouterr().err
  assert not (path / 'tokenizer.model').exists()


def test_other_data_are_rejected(finished, tmp_path, capsys):
  path = tmp_path / 'run'
  small_run.copy_to_edit(finished, path)
  config = json.loads((path / 'config.json').read_text())
  config['data']['test'] = 'of another data set'
  (path / 'config.json').write_text(json.dumps(config))
  assert evaluate.main([f'--run-dir={path}']) == 2
  assert 'was started with other data: test' in capsys.readouterr().err
