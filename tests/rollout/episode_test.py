"""The compiled episode against one written in Python with full passes."""

import jax.numpy as jnp
import numpy as np
import pytest

from score_jax.rollout import randomness
from tests.support import slow_episode, small_models

pytestmark = pytest.mark.usefixtures('quick_compilation')


def _slow(name, turns, separators=None, **options):
  return slow_episode.run(
    small_models.CONFIGS[name],
    small_models.params(name),
    small_models.prompts(small_models.PROMPT_LENGTHS, 12),
    separators or small_models.separators(turns),
    small_models.LIMITS[:turns],
    small_models.SAMPLES,
    **options,
  )


def _assert_equal(trajectory, rows):
  for b, row in enumerate(rows):
    length = len(row.tokens)
    assert int(trajectory.length[b]) == length
    assert trajectory.tokens[b, :length].tolist() == row.tokens
    assert trajectory.turn[b, :length].tolist() == row.turn
    assert trajectory.finished[b].tolist() == row.finished
    np.testing.assert_allclose(
      trajectory.logprobs[b, :length], row.logprobs, atol=1e-4
    )
    for padding in (trajectory.tokens, trajectory.turn, trajectory.logprobs):
      assert not padding[b, length:].any()
  assert trajectory.sampled.all()
  np.testing.assert_array_equal(
    trajectory.problem_index, np.arange(len(rows)) // small_models.SAMPLES
  )


# A cache that is not transposed writes in lock-step where it has no ring:
# Gemma 1 in all layers, Gemma 3 in the global one of three.
@pytest.mark.parametrize(
  ('name', 'turns', 'transposed'),
  [
    ('gemma2', 2, True),
    ('gemma3', 3, True),
    ('gemma1', 2, False),
    ('gemma3', 3, False),
  ],
)
def test_sampled_episode_equals_the_slow_one(name, turns, transposed):
  trajectory = small_models.run(
    name, turns, seed=3, temperature=0.7, transposed=transposed
  )
  total = trajectory.tokens.shape[1]
  uniforms = randomness.uniforms(small_models.sequence_keys(3), total)
  rows = _slow(name, turns, uniforms=np.asarray(uniforms), temperature=0.7)
  _assert_equal(trajectory, rows)
  # Both separators occur, which differ in length.
  first = [row.finished[0] for row in rows]
  assert any(first)
  assert not all(first)


@pytest.mark.parametrize('closes_turn', [True, False])
def test_stop_texts_end_attempts(closes_turn):
  separators = small_models.with_stop_texts(
    small_models.separators(2), closes_turn=closes_turn
  )
  before = small_models.run('gemma2', 2, seed=3, temperature=0.7)
  made = small_models.run(
    'gemma2', 2, seed=3, temperature=0.7, separators=separators
  )
  uniforms = randomness.uniforms(
    small_models.sequence_keys(3), made.tokens.shape[1]
  )
  rows = _slow(
    'gemma2', 2, separators, uniforms=np.asarray(uniforms), temperature=0.7
  )
  _assert_equal(made, rows)
  ends = {_end(made, row, turn) for row in range(8) for turn in (1, 2)}
  assert ends == {'stop token', 'stop text', 'cut off'}
  # First attempts are those of the same draws without stop texts, and end
  # with the token that completes one.
  for row in range(8):
    own, longer = _attempt(made, row, 1), _attempt(before, row, 1)
    assert longer[: len(own)] == own
    assert (len(own) < len(longer)) <= (_end(made, row, 1) == 'stop text')


def _end(trajectory, row, turn):
  if not trajectory.finished[row, turn - 1]:
    return 'cut off'
  last = _attempt(trajectory, row, turn)[-1]
  is_token = last in (small_models.STOP, small_models.OTHER_STOP)
  return 'stop token' if is_token else 'stop text'


def test_greedy_episode_is_the_argmax_of_full_passes():
  # Temperature is not used, log-probabilities are at temperature 1.
  trajectory = small_models.run('gemma2', 2, greedy=True, temperature=0.1)
  _assert_equal(trajectory, _slow('gemma2', 2))


def _attempt(trajectory, row, turn):
  return trajectory.tokens[row][trajectory.turn[row] == turn].tolist()


@pytest.fixture(scope='module')
def endless():
  """Episodes without stop tokens: no policy samples -1."""
  return _run(stop_ids=(-1, -2))


def _run(stop_ids):
  separators = small_models.separators(2, stop_ids)
  # `after_cut` begins with the first stop id, which here may be -1.
  after_cut = jnp.maximum(separators.after_cut, 0)
  separators = separators.replace(after_cut=after_cut)
  return small_models.run('gemma2', 2, seed=5, separators=separators)


def test_without_stop_tokens_every_attempt_is_cut_off(endless):
  assert not endless.finished.any()
  for row in range(8):
    assert len(_attempt(endless, row, 1)) == 8
    assert len(_attempt(endless, row, 2)) == 9


@pytest.mark.parametrize('place', [0, 3, 7])
def test_the_stop_token_is_kept(endless, place):
  """First in the attempt, inside it, and exactly at the limit of 8.

  The token that row 0 draws at `place` is declared a stop token (seed 5 draws
  it there for the first time).
  """
  before = _attempt(endless, 0, 1)
  stop = before[place]
  assert stop not in before[:place]
  trajectory = _run((stop, -1))
  assert _attempt(trajectory, 0, 1) == before[: place + 1]
  assert bool(trajectory.finished[0, 0])
  position = int(np.argmax(trajectory.turn[0] == 1)) + place
  assert int(trajectory.tokens[0, position]) == stop
  assert int(trajectory.turn[0, position]) == 1
  assert float(trajectory.logprobs[0, position]) < 0
  # Then comes `after_stop`, which does not repeat the stop token.
  given = trajectory.tokens[0, position + 1 : position + 4].tolist()
  assert given[:2] == [20, 21]
  assert trajectory.turn[0, position + 1 : position + 4].tolist() == [0, 0, 2]


def test_after_a_cut_the_stop_token_is_given(endless):
  stop = next(i for i in range(61) if i not in endless.tokens[0].tolist())
  trajectory = _run((stop, -1))
  position = int(np.argmax(trajectory.turn[0] == 1)) + 8
  assert trajectory.turn[0, position - 1 : position + 4].tolist() == (
    [1, 0, 0, 0, 2]
  )
  assert trajectory.tokens[0, position : position + 3].tolist() == (
    [stop, 20, 21]
  )
  assert not trajectory.logprobs[0, position : position + 3].any()
  assert not bool(trajectory.finished[0, 0])


def test_either_of_two_stop_tokens_ends_an_attempt(endless):
  first, second = _attempt(endless, 0, 1), _attempt(endless, 2, 1)
  trajectory = _run((first[4], second[2]))
  stops = {first[4], second[2]}
  for row in range(8):
    before = _attempt(endless, row, 1)
    cut = next((i for i, t in enumerate(before) if t in stops), 7)
    assert _attempt(trajectory, row, 1) == before[: cut + 1]
    assert bool(trajectory.finished[row, 0]) == (before[cut] in stops)


def test_attempts_of_one_token():
  # Prompts of 1 to 12 tokens, then 1 + given + 1: the second attempt is at
  # 3 (after a stop token) or 4 tokens (cut off) behind the first.
  trajectory = small_models.run('gemma2', 2, seed=1, max_new_tokens=(1, 1))
  for row in range(8):
    prompt = small_models.PROMPT_LENGTHS[row // 2]
    assert [len(_attempt(trajectory, row, k)) for k in (1, 2)] == [1, 1]
    gap = 3 if trajectory.finished[row, 0] else 4
    assert int(trajectory.turn[row, prompt]) == 1
    assert int(trajectory.turn[row, prompt + gap]) == 2
    assert int(trajectory.length[row]) == prompt + gap + 1
    for k in (1, 2):
      token = _attempt(trajectory, row, k)[0]
      is_stop = token in (small_models.STOP, small_models.OTHER_STOP)
      assert bool(trajectory.finished[row, k - 1]) == is_stop
