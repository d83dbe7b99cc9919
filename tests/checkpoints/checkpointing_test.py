"""Faults are injected into real checkpoints: no wrong byte may come back."""

import asyncio
import json
import logging
import pathlib
import shutil
import signal
import subprocess
import sys
import types

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from score_jax.checkpoints import (
  checkpoint_manifest,
  checkpoint_store,
  checkpointing,
)

ROOT = pathlib.Path(__file__).resolve().parents[2]


class State(struct.PyTreeNode):
  """Shaped like a TrainState: nested dicts, a named tuple, scalars."""

  step: jax.Array
  params: dict
  opt_state: optax.OptState


def make_state(step):
  """A state of which no two steps share a byte of parameters."""
  # Noise: constants would be compressed to nothing, and faults would miss.
  noise = np.random.default_rng(step).normal(size=(64, 33))
  params = {
    'embedding': jnp.asarray(noise, jnp.float32),
    'layer': {'scale': jnp.asarray(noise[0], jnp.bfloat16)},
  }
  opt_state = optax.adam(1e-3).init(params)
  return State(jnp.int32(step), params, opt_state)


def target():
  """What is restored into: shapes and dtypes only."""
  return jax.eval_shape(lambda: make_state(0))


def assert_same(actual, expected):
  """Same structure, dtypes and bits."""
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  for a, b in zip(
    jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True
  ):
    assert a.dtype == b.dtype
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.fixture(scope='module')
def pristine(tmp_path_factory):
  """Steps 1, 2 and 3, the second the best; copied before it is damaged."""
  directory = tmp_path_factory.mktemp('pristine') / 'checkpoints'
  with checkpointing.Checkpoints(directory, keep=3) as store:
    for step, score in ((1, 0.1), (2, 0.3), (3, 0.2)):
      store.save(step, make_state(step), {'note': f's{step}'}, score=score)
  return directory


@pytest.fixture
def directory(pristine, tmp_path):
  return pathlib.Path(
    shutil.copytree(pristine, tmp_path / 'checkpoints', symlinks=True)
  )


def test_nothing_saved(tmp_path):
  with checkpointing.Checkpoints(tmp_path / 'new') as store:
    assert store.steps() == []
    assert store.restore(target()) is None
  with checkpointing.Checkpoints(tmp_path / 'absent', read_only=True) as store:
    assert store.restore(target()) is None
  assert not (tmp_path / 'absent').exists()


@pytest.mark.parametrize(
  ('which', 'step'), [('latest', 3), ('best', 2), (1, 1)]
)
def test_restores_bit_for_bit(directory, which, step):
  with checkpointing.Checkpoints(directory) as store:
    restored = store.restore(target(), which)
  assert restored.step == step
  assert restored.metadata == {'note': f's{step}'}
  assert_same(restored.state, make_state(step))


def test_restores_a_part(directory):
  part = {'params': target().params}
  with checkpointing.Checkpoints(directory) as store:
    restored = store.restore(part, 'best', partial=True)
    with pytest.raises(checkpoint_manifest.MismatchError):
      store.restore(part, 'best')
  assert_same(restored.state['params'], make_state(2).params)


@pytest.mark.parametrize('devices', [1, 2, 4])
def test_restores_on_another_mesh(tmp_path, devices):
  def shardings(count):
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:count]), ('data',))
    split = jax.sharding.NamedSharding(mesh, jax.P('data'))
    return split, jax.sharding.NamedSharding(mesh, jax.P())

  value = jnp.arange(16.0 * 3).reshape(16, 3)
  split, whole = shardings(8)
  state = {
    'split': jax.device_put(value, split), 'whole': jax.device_put(value, whole)
  }  # fmt: skip
  with checkpointing.Checkpoints(tmp_path) as store:
    store.save(1, state)
    asked = {
      name: jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=sharding)
      for name, sharding in zip(state, shardings(devices), strict=True)
    }
    restored = store.restore(asked).state
  assert_same(restored, state)
  assert restored['split'].sharding == asked['split'].sharding
  assert len(restored['split'].sharding.device_set) == devices


def damages():
  """Ways to damage a file."""

  def flip(path, share):
    content = bytearray(path.read_bytes())
    content[min(int(share * len(content)), len(content) - 1)] ^= 0x10
    path.write_bytes(content)

  def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

  return {
    'flip at the start': lambda path: flip(path, 0.0),
    'flip in the middle': lambda path: flip(path, 0.5),
    'flip at the end': lambda path: flip(path, 1.0),
    'truncate': truncate,
    'empty': lambda path: path.write_bytes(b''),
    'remove': lambda path: path.unlink(),
  }


@pytest.mark.parametrize('damage', damages())
def test_a_damaged_file_never_changes_what_is_restored(
  pristine, tmp_path, damage, caplog
):
  files = [
    path.relative_to(pristine)
    for path in sorted((pristine / '3').rglob('*'))
    if path.is_file() and path.stat().st_size
  ]
  assert len(files) >= 5
  older = 0
  for i, name in enumerate(files):
    copy = tmp_path / str(i)
    shutil.copytree(pristine, copy)
    damages()[damage](copy / name)
    caplog.clear()
    with checkpointing.Checkpoints(copy) as store:
      restored = store.restore(target())
    # Some files (Orbax's own marks) are not needed for step 3; where one is,
    # step 2 comes back, and step 3 is set aside, loudly, not deleted.
    assert_same(restored.state, make_state(restored.step))
    assert restored.metadata == {'note': f's{restored.step}'}
    assert restored.step in (2, 3), name
    if restored.step == 2:
      older += 1
      assert (copy / '3.damaged-1').is_dir()
      assert not (copy / '3').exists()
      assert 'SKIPPED damaged checkpoint' in caplog.text
  # At the very least the arrays and the manifest matter.
  assert older >= 2


def test_an_empty_directory_fools_nobody(directory):
  (directory / '4').mkdir()
  with checkpointing.Checkpoints(directory) as store:
    assert store.restore(target()).step == 3
    store.save(4, make_state(4))
    assert store.restore(target()).step == 4
  assert (directory / '4.damaged-1').is_dir()


def test_foreign_files_and_unfinished_saves(directory, caplog):
  (directory / 'README').write_text('mine')
  unfinished = directory / '4.orbax-checkpoint-tmp'
  shutil.copytree(directory / '3', unfinished)
  with checkpointing.Checkpoints(directory) as store:
    assert not unfinished.exists()
    assert 'removing the unfinished checkpoint' in caplog.text
    assert store.restore(target()).step == 3
  assert (directory / 'README').read_text() == 'mine'


@pytest.mark.parametrize('damaged', ['manifest', 'array'])
def test_no_other_takes_the_place_of_a_damaged_best(directory, damaged):
  if damaged == 'manifest':
    # Its score is not known either.
    (directory / '2' / 'manifest' / 'metadata').write_bytes(b'{}')
  else:
    [array] = (directory / '2' / 'params' / 'd').iterdir()
    array.write_bytes(b'')
  for read_only in (True, False, True):
    with (
      checkpointing.Checkpoints(directory, read_only=read_only) as store,
      pytest.raises(checkpoint_manifest.DamagedError) as error,
    ):
      store.restore(target(), 'best')
    assert f'without {directory / "2"} the best of' in str(error.value)
  # Only whoever removes it has another one. Scores: 0.1, none, 0.2.
  shutil.rmtree(directory / '2')
  with checkpointing.Checkpoints(directory) as store:
    assert store.restore(target(), 'best').step == 3


def test_everything_is_damaged(directory):
  for step in ('1', '2', '3'):
    shutil.rmtree(directory / step / 'state')
  for _ in range(2):  # Not a fresh start the next time either.
    with (
      checkpointing.Checkpoints(directory) as store,
      pytest.raises(checkpoint_manifest.DamagedError),
    ):
      store.restore(target())
  assert sorted(p.name for p in directory.iterdir()) == [
    '1.damaged-1', '2.damaged-1', '3.damaged-1'
  ]  # fmt: skip


def test_a_reader_changes_nothing(directory):
  (directory / '3' / 'manifest' / 'metadata').write_bytes(b'{}')
  (directory / '4.orbax-checkpoint-tmp').mkdir()
  before = sorted(p.name for p in directory.iterdir())
  with checkpointing.Checkpoints(directory, read_only=True) as store:
    assert store.restore(target()).step == 2
    with pytest.raises(ValueError, match='read_only'):
      store.save(5, make_state(5))
  assert sorted(p.name for p in directory.iterdir()) == before


@pytest.mark.parametrize(
  ('change', 'says'),
  [
    (
      lambda s: s.replace(step=jax.ShapeDtypeStruct((), jnp.float32)),
      r'step is int32\[\], asked for as float32\[\]',
    ),
    (
      lambda s: s.replace(params={**s.params, 'more': s.step}),
      'params/more is not in it',
    ),
    (
      lambda s: s.replace(params={'layer': s.params['layer']}),
      'params/embedding is in it but not asked for',
    ),
    (
      lambda s: s.replace(
        params={
          **s.params,
          'embedding': jax.ShapeDtypeStruct((64, 32), jnp.float32),
        }  # fmt: skip
      ),
      r'float32\[64, 33\], asked for as float32\[64, 32\]',
    ),
  ],
)
def test_another_model_is_rejected_and_nothing_set_aside(
  directory, change, says
):
  with (
    checkpointing.Checkpoints(directory) as store,
    pytest.raises(checkpoint_manifest.MismatchError, match=says),
  ):
    store.restore(change(target()))
  assert sorted(p.name for p in directory.iterdir()) == ['1', '2', '3']


def test_a_newer_format_is_rejected(directory):
  path = directory / '3' / 'manifest' / 'metadata'
  body = json.loads(path.read_text())
  del body['sha256']
  body['format'] += 1
  path.write_text(
    json.dumps(body | {'sha256': checkpoint_manifest._digest(body)})
  )
  with (
    checkpointing.Checkpoints(directory) as store,
    pytest.raises(checkpoint_manifest.MismatchError, match='format 4'),
  ):
    store.restore(target())


@pytest.mark.parametrize('value', [np.nan, -np.inf])
def test_non_finite_states_are_not_saved(tmp_path, value):
  state = make_state(1)
  scale = state.params['layer']['scale'].at[3].set(value)
  state = state.replace(params={**state.params, 'layer': {'scale': scale}})
  with checkpointing.Checkpoints(tmp_path) as store:
    with pytest.raises(FloatingPointError, match='layer/scale has 1 of 33'):
      store.save(1, state)
    assert store.steps() == []


def bytes_in(directory):
  """Of all files."""
  return sum(p.stat().st_size for p in directory.rglob('*') if p.is_file())


def test_keeps_the_newest_whole_and_of_the_best_the_parameters(tmp_path):
  part = {'params': target().params}
  scores = [0.1, 0.5, 0.2, 0.5, 0.4, 0.3]
  with checkpointing.Checkpoints(tmp_path) as store:
    for step, score in enumerate(scores, start=1):
      store.save(step, make_state(step), score=score)
    # The newest, and of the two best the earlier.
    assert store.steps() == [2, 6]
    assert_same(store.restore(target()).state, make_state(6))
    best = store.restore(part, 'best', partial=True)
    assert best.step == 2
    assert_same(best.state['params'], make_state(2).params)
    with pytest.raises(
      checkpoint_manifest.DamagedError, match='only the param'
    ):
      store.restore(target(), 'best')
    # Adam's two moments are zeros here, and so compressed to nothing.
    assert bytes_in(tmp_path / '2') < bytes_in(tmp_path / '6')
    assert not (tmp_path / '2/state').exists()
  assert sorted(p.name for p in tmp_path.iterdir()) == ['2', '6']


def test_without_params_the_best_stays_whole(tmp_path):
  with checkpointing.Checkpoints(tmp_path) as store:
    for step, score in enumerate((1.0, 0.0, 0.0), start=1):
      store.save(step, {'x': jnp.full(3, step)}, score=score)
    assert store.restore({'x': jnp.zeros(3, jnp.int32)}, 'best').step == 1


@pytest.mark.parametrize(('which', 'step'), [('latest', 3), ('best', 2)])
def test_the_parameters_alone(directory, which, step):
  part = {'params': target().params}
  with checkpointing.Checkpoints(directory) as store:
    for _ in range(2):  # The second time there is nothing left to do.
      store.keep_parameters(which)
      assert store.steps() == [step]
      for asked in ('latest', 'best'):
        restored = store.restore(part, asked, partial=True)
        assert_same(restored.state['params'], make_state(step).params)
    with pytest.raises(checkpoint_manifest.DamagedError, match='only the par'):
      store.restore(target())
  # Nothing was set aside: the step is not damaged.
  assert [p.name for p in directory.iterdir()] == [str(step)]


def test_killed_while_the_rest_is_removed(directory, monkeypatch):
  """Before the renaming and after it, whatever is left is read."""
  part = {'params': target().params}
  remove = checkpoint_store.Store._remove

  class KilledError(Exception):
    pass

  def die(store, source):
    raise KilledError

  with checkpointing.Checkpoints(directory, keep=1) as store:
    monkeypatch.setattr(checkpoint_store.Store, '_remove', die)
    with pytest.raises(KilledError):
      store._store.shrink(2)
    monkeypatch.setattr(checkpoint_store.Store, '_remove', remove)
    assert_same(
      store.restore(part, 'best', partial=True).state['params'],
      make_state(2).params,
    )
    store.save(4, make_state(4), score=0.0)
    assert store.steps() == [2, 4]
    assert not (directory / '2/state').exists()
  (directory / '.removing-state').mkdir()
  with checkpointing.Checkpoints(directory) as store:
    assert store.restore(part, 'best', partial=True).step == 2
  assert not (directory / '.removing-state').exists()


def test_a_save_that_reads_back_wrong_removes_nothing(directory, monkeypatch):
  read = checkpoint_store.Store._parts_on_disk

  def lose_bytes_and_read(store, step, places):
    store._manager.wait_until_finished()
    shutil.rmtree(directory / str(step) / 'state')
    return read(store, step, places)

  with checkpointing.Checkpoints(directory, keep=1) as store:
    monkeypatch.setattr(
      checkpoint_store.Store, '_parts_on_disk', lose_bytes_and_read
    )
    with pytest.raises(checkpoint_manifest.DamagedError):
      store.save(4, make_state(4))
    assert store.steps() == [1, 2, 3, 4]
    # What was intact before is restored; the next good save prunes it.
    assert store.restore(target()).step == 3
    monkeypatch.undo()
    store.save(5, make_state(5))
    assert store.steps() == [2, 5]


def test_steps_only_grow(directory):
  with checkpointing.Checkpoints(directory) as store:
    for step in (2, 3):
      with pytest.raises(ValueError, match='step 3'):
        store.save(step, make_state(step))


def test_background_saves_survive_donation(tmp_path):
  @jax.jit
  def advance(state):
    return jax.tree.map(lambda x: x + 1, state)

  donating = jax.jit(advance, donate_argnums=0)
  state = {'x': jnp.zeros((512, 512))}
  with checkpointing.Checkpoints(tmp_path, keep=9, is_async=True) as store:
    for step in range(1, 5):
      state = donating(state)
      store.save(step, state)
    store.wait()
    for step in range(1, 5):
      restored = store.restore({'x': jnp.zeros((512, 512))}, step)
      np.testing.assert_array_equal(restored.state['x'], float(step))


def test_what_a_failed_save_leaves_behind_ends_silently(tmp_path, monkeypatch):
  said = []
  monkeypatch.setattr(sys, 'unraisablehook', said.append)
  checkpointing.Checkpoints(tmp_path).close()
  loop = asyncio.new_event_loop()
  loop.close()
  with pytest.raises(RuntimeError, match='closed') as called:
    loop.call_soon_threadsafe(print)
  error, ours = called.value, called.value.__traceback__
  # Without a caller in Python, it was tensorstore.
  for trace in (ours.tb_next, ours):
    unraisable = types.SimpleNamespace(exc_value=error, exc_traceback=trace)
    sys.unraisablehook(unraisable)
  assert [each.exc_traceback for each in said] == [ours]


# Run in a process of its own: saves step 1, then starts to save step 2.
WRITER = """
import resource, signal, sys, os
import numpy as np
from score_jax.checkpoints import checkpointing

fault, directory = sys.argv[1:]
state = {'x': np.random.default_rng(0).normal(size=(2_000_000,)).astype('f')}
store = checkpointing.Checkpoints(directory, is_async=fault != 'full, waiting')
store.save(1, state)
store.wait()
if fault == 'killed':
  store.save(2, state)
  os.kill(os.getpid(), signal.SIGKILL)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
  store.save(2, state)
  while fault == 'full, polled':
    store.poll()
  store.close()
except Exception as error:
  print('SURFACED', type(error).__name__)
"""


def start_writer(fault, directory):
  """Runs WRITER; returns its exit code and output."""
  child = subprocess.run(
    [sys.executable, '-c', WRITER, fault, directory],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=120,
  )
  return child.returncode, child.stdout + child.stderr


def test_killed_while_saving(tmp_path):
  code, _ = start_writer('killed', tmp_path)
  assert code == -signal.SIGKILL
  expected = np.random.default_rng(0).normal(size=(2_000_000,)).astype('f')
  with checkpointing.Checkpoints(tmp_path) as store:
    assert not list(tmp_path.glob('*tmp*'))
    restored = store.restore({'x': expected})
  np.testing.assert_array_equal(restored.state['x'], expected)


@pytest.mark.parametrize(
  'fault', ['full, waiting', 'full, polled', 'full, in the background']
)
def test_a_disk_that_takes_no_more(tmp_path, fault):
  # A file size limit: writes fail as on a full disk, for root too.
  code, output = start_writer(fault, tmp_path)
  assert code == 0, output
  assert 'SURFACED' in output
  with checkpointing.Checkpoints(tmp_path, read_only=True) as store:
    assert store.steps() == [1]


def test_what_cannot_be_saved(tmp_path):
  with checkpointing.Checkpoints(tmp_path) as store:
    with pytest.raises(TypeError, match='a/b is int'):
      store.save(1, {'a': {'b': 3}})
    with pytest.raises(ValueError, match='a/b'):
      store.save(1, {'a': {'b': jnp.zeros(1)}, 'a/b': jnp.zeros(1)})
    # Without x64, jax would restore it as float32.
    with pytest.raises(TypeError, match='a is float64'):
      store.save(1, {'a': np.zeros(1)})
  with pytest.raises(ValueError, match='keep=0'):
    checkpointing.Checkpoints(tmp_path, keep=0)


def test_logging_is_loud_by_default(directory):
  # Without any set-up of logging, Python prints errors to stderr.
  assert logging.getLogger(checkpoint_store.__name__).level == logging.NOTSET
  (directory / '3' / 'manifest' / 'metadata').write_bytes(b'{}')
  program = (
    'import jax, sys\n'
    'from score_jax.checkpoints import checkpointing\n'
    'store = checkpointing.Checkpoints(sys.argv[1])\n'
    "store.restore({'step': jax.numpy.int32(0)}, partial=True)\n"
  )
  child = subprocess.run(
    [sys.executable, '-c', program, directory],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert child.returncode == 0, child.stderr
  assert 'SKIPPED damaged checkpoint' in child.stderr
