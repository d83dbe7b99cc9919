"""Collectives of two processes, and the sequences that each of them has.

The programs assert for themselves, in both processes; with one process every
collective is the identity.
"""

import jax
import numpy as np
import pytest

from score_jax import distributed
from tests.support import process_group

JOIN = """
import os
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from score_jax import distributed

INDEX = int(os.environ['JAX_PROCESS_ID'])
jax.distributed.initialize(
  num_processes=2, process_id=INDEX, cluster_detection_method='deactivate'
)
assert distributed.count() == 2
assert distributed.is_first() == (INDEX == 0)
"""

COLLECTIVES = """
# Short, of unequal length, and too long for one message in one process only.
for text in ('', 'a' * (1 + 3 * INDEX), 'b' * (9 + 10_000 * INDEX)):
  both = distributed.gather({'text': text, 'index': INDEX})
  assert [said['index'] for said in both] == [0, 1]
  assert both[INDEX]['text'] == text
assert [len(said["text"]) for said in both] == [9, 10_009]
# Around the end of the message, header and pickle's own bytes included.
for size in range(4050, 4100):
  assert distributed.gather('c' * size) == ['c' * size] * 2

assert distributed.agree(('x', INDEX)) == ('x', 0)
assert not distributed.all_of(INDEX == 0)
assert distributed.all_of(True)

# Seven things, of which each process does some, in order.
done = []
def double(part):
  done.extend(part)
  return [2 * item for item in part]
assert distributed.share_out(double, range(7)) == [0, 2, 4, 6, 8, 10, 12]
assert done == ([0, 1, 2], [3, 4, 5, 6])[INDEX], done
assert distributed.share_out(double, [5]) == [10]
assert distributed.share_out(double, []) == []

# What fails in one fails in both, with the same words.
class Strange(Exception):
  def __init__(self, one, two):
    super().__init__(one + two)

def fail_in(index, error):
  def function():
    if INDEX == index:
      raise error
    return INDEX
  return function

assert distributed.everywhere(fail_in(None, None)) == INDEX
for index in (0, 1):
  with pytest.raises(ValueError, match='mine'):
    distributed.everywhere(fail_in(index, ValueError('mine')))
  with pytest.raises(RuntimeError, match='Strange: ab'):
    distributed.everywhere(fail_in(index, Strange('a', 'b')))
  with pytest.raises(ValueError, match='ours'):
    distributed.share_out(
      lambda part: fail_in(index, ValueError('ours'))() or list(part), 'abc'
    )

called = []
assert distributed.by_first(lambda: called.append(INDEX) or 'made') == 'made'
assert called == [0] * (INDEX == 0)

# Two processes of one host, and of two.
import socket
for hosts, callers in ((('a', 'a'), [0]), (('a', 'b'), [0, 1])):
  socket.gethostname = lambda: hosts[INDEX]
  called = []
  made = distributed.by_hosts(lambda: called.append(INDEX) or f'by {INDEX}')
  assert called == [INDEX] * (INDEX in callers)
  assert made == f'by {callers[INDEX] if len(callers) > 1 else 0}'
with pytest.raises(ValueError, match='ours'):
  distributed.by_hosts(fail_in(1, ValueError('ours')))
with pytest.raises(OSError, match='only the first'):
  distributed.by_first(fail_in(0, OSError('only the first')))
distributed.barrier()
"""

SEQUENCES = """
from score_jax.training import sharding

VALUE = np.arange(8 * 3, dtype=np.int32).reshape(8, 3)
KEYS = jax.random.split(jax.random.key(3, impl='threefry2x32'), 8)
# data, fsdp, tensor -> sequences of each process, which has two devices.
LAYOUTS = {
  (4, 1, 1): ([0, 1, 2, 3], [4, 5, 6, 7]),
  (2, 2, 1): ([0, 1, 2, 3], [4, 5, 6, 7]),
  (2, 1, 2): ([0, 1, 2, 3], [4, 5, 6, 7]),
  # Every device has all sequences: they are the first's, whose replica counts.
  (1, 1, 4): (list(range(8)), []),
}
for shape, expected in LAYOUTS.items():
  mesh = sharding.make_mesh(jax.devices(), *shape)
  where = sharding.batch_sharding(mesh)
  placed, mask, keys = distributed.put_batch(
    (VALUE, jnp.asarray(VALUE > 5), KEYS), where
  )
  assert placed.sharding.is_equivalent_to(where, 2)
  index, (own, own_mask) = distributed.local_sequences((placed, mask), where)
  assert index.tolist() == expected[INDEX], (shape, index)
  np.testing.assert_array_equal(own, VALUE[index])
  np.testing.assert_array_equal(own_mask, VALUE[index] > 5)
  assert own.dtype == np.int32 and own_mask.dtype == bool
  texts = [f'text {each[0]}' for each in own]
  everything = distributed.merge_sequences(index, texts, 8)
  assert everything == [f'text {3 * i}' for i in range(8)]
  # What a program made elsewhere is moved first.
  columns = jax.jit(
    lambda x: x, out_shardings=sharding.replicated(mesh)
  )(placed)
  again, moved = distributed.local_sequences(columns, where)
  assert again.tolist() == expected[INDEX]
  np.testing.assert_array_equal(moved, VALUE[again])
  # The numbers of a key do not depend on its sharding.
  draws = jax.jit(jax.vmap(jax.random.uniform))
  np.testing.assert_array_equal(distributed.to_host(draws(keys)), draws(KEYS))
  np.testing.assert_array_equal(distributed.to_host(placed), VALUE)
# Sequences that do not divide are on every device.
odd = distributed.put_batch(VALUE[:3], where := sharding.batch_sharding(
  sharding.make_mesh(jax.devices(), 4, 1, 1)
))
assert odd.is_fully_replicated
index, own = distributed.local_sequences(odd, where)
assert index.tolist() == ([0, 1, 2], [])[INDEX]
# Types that numpy does not have, and that jax does not keep.
half = distributed.put(jnp.ones((4, 2), jnp.bfloat16), where)
assert half.dtype == jnp.bfloat16
assert distributed.put(np.ones((4, 2)), where).dtype == jnp.float32
"""


@pytest.mark.parametrize(
  'program', [COLLECTIVES, SEQUENCES], ids=['collectives', 'sequences']
)
def test_two_processes(program):
  process_group.run('-c', JOIN + program)


def test_one_process_is_alone():
  assert distributed.count() == 1
  assert distributed.is_first()
  assert distributed.gather('x') == ['x']
  assert distributed.agree('x') == 'x'
  assert distributed.everywhere(lambda: 3) == 3
  assert distributed.by_first(lambda: 3) == 3
  assert distributed.share_out(lambda part: [2 * x for x in part], [1, 2]) == [
    2, 4
  ]  # fmt: skip
  error = ValueError('as it is')
  with pytest.raises(ValueError, match='as it is') as caught:
    distributed.by_first(lambda: (_ for _ in ()).throw(error))
  assert caught.value is error


def test_one_process_has_all_sequences():
  value = np.arange(6).reshape(3, 2)
  index, own = distributed.local_sequences(
    {'a': jax.numpy.asarray(value)}, None
  )
  assert index.tolist() == [0, 1, 2]
  np.testing.assert_array_equal(own['a'], value)
  assert distributed.merge_sequences(index, ['a', 'b', 'c'], 3) == [
    'a',
    'b',
    'c',
  ]
