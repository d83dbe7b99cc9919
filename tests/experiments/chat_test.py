"""Typing problems: piped lines, and what is said to wrong ones."""

import io
import json
import sys

import pytest

from experiments import chat
from score_jax import types
from score_jax.tasks import aiming


def talk(path, lines, monkeypatch, capsys, *more):
  """Exit code and output of a chat whose input these lines are."""
  text = ''.join(line + '\n' for line in lines)
  monkeypatch.setattr(sys, 'stdin', io.StringIO(text))
  code = chat.main([f'--run-dir={path}', *more])
  return code, capsys.readouterr().out


def evaluated(path, stage):
  """What the run's evaluation saw, by question."""
  lines = (path / stage / 'evaluation.jsonl').read_text().splitlines()
  return {r['question']: r for r in map(json.loads, lines)}


@pytest.mark.parametrize('policy', ['base', 'stage2'])
def test_both_attempts_of_each_line(finished, policy, monkeypatch, capsys):
  known = evaluated(finished, policy)
  questions = list(known)[:3]
  code, said = talk(
    finished, questions, monkeypatch, capsys, f'--policy={policy}'
  )
  assert code == 0
  assert f'{policy} of ' in said
  panels = said.split('╭')[1:]
  assert len(panels) == 3
  for panel, question in zip(panels, questions):
    # Greedy: what the evaluation saw.
    record = known[question]
    assert question in panel
    for turn in (1, 2):
      [line] = [line for line in panel.split('\n') if f'attempt {turn}' in line]
      assert record['attempts'][turn - 1] in line
      assert record['labels'][turn - 1] in line
    assert record['reference'] in panel


def test_the_last_policy_is_the_default(finished, monkeypatch, capsys):
  code, said = talk(finished, [], monkeypatch, capsys)
  assert code == 0
  assert 'stage2 of ' in said


@pytest.mark.parametrize('end', ['quit', ' QUIT ', 'exit'])
def test_quit_ends_it(finished, end, monkeypatch, capsys):
  code, said = talk(finished, ['1+2', end, '3+4'], monkeypatch, capsys)
  assert code == 0
  assert '1+2' in said
  assert '3+4' not in said


def test_wrong_lines_are_answered_and_empty_ones_are_not(
  finished, monkeypatch, capsys
):
  lines = ['', 'what is one and two?', '  ', '12+1', '1 + 2']
  code, said = talk(finished, lines, monkeypatch, capsys)
  assert code == 0
  said = ' '.join(said.split())
  message = 'is not a sum of two numbers of at most 1 digits, such as'
  assert said.count(message) == 2
  assert said.count('attempt 1') == 1
  assert '1+2' in said


def test_temperature_samples(finished, monkeypatch, capsys):
  lines = ['1+2'] * 6
  _, greedy = talk(finished, lines, monkeypatch, capsys)
  panels = greedy.split('╭')[1:]
  assert len(panels) == 6
  assert len(set(panels)) == 1
  _, sampled = talk(
    finished, lines, monkeypatch, capsys, '--temperature=5', '--policy=base'
  )
  assert len(set(sampled.split('╭')[1:])) > 1


def test_on_a_terminal_it_asks(finished, monkeypatch, capsys):
  class Terminal(io.StringIO):
    def isatty(self):
      return True

  monkeypatch.setattr(sys, 'stdin', Terminal('1+2\n'))
  assert chat.main([f'--run-dir={finished}']) == 0
  assert 'problem>' in capsys.readouterr().out


def test_what_is_not_there(finished, tmp_path, monkeypatch, capsys):
  assert chat.main([f'--run-dir={tmp_path / "none"}']) == 2
  assert 'holds no run' in capsys.readouterr().err
  assert not (tmp_path / 'none').exists()
  assert chat.main([f'--run-dir={finished}', '--policy=stage9']) == 2
  assert 'it has: base, stage1, stage2' in capsys.readouterr().err
  with pytest.raises(SystemExit):
    chat.main([f'--run-dir={finished}', '--temperature=-1'])
  assert 'must be at least 0' in capsys.readouterr().err


def test_questions_of_other_tasks_have_no_reference():
  task = types.Task(
    'gsm8k', [], [], lambda p: p.question, 'Again', lambda: None
  )
  problem = chat.read_problem(task, 'How many?')
  assert (problem.question, problem.reference) == ('How many?', '')
  assert (problem.task, problem.id) == ('gsm8k', 'How many?')
  assert problem.columns['question'] == 'How many?'


def test_a_task_that_reads_its_problems_knows_their_references():
  task = aiming.load(moves=4, num_train=1, num_test=1)
  assert chat.read_problem(task, '3141').reference == '13401'
  with pytest.raises(ValueError, match='not 4 moves'):
    chat.read_problem(task, 'How many?')
