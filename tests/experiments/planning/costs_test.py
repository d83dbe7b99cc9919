"""FLOPs, bytes and traffic of programs small enough to count by hand."""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest

from experiments.planning import chips, costs, flops, hlo

# A second for 1 FLOP (at 75 %), a byte, a byte from another chip.
_SLOW = chips.Chip('slow', 1 / costs.PEAK_SHARE, 1.0, 1.0, 1.0)


def _cost(function, *arguments, **options):
  compiled = jax.jit(function).lower(*arguments).compile()
  return costs.measure(hlo.parse(compiled.as_text()), _SLOW, **options)


def _matrix(rows, columns, dtype=jnp.float32):
  return jax.ShapeDtypeStruct((rows, columns), dtype)


def test_matrix_product():
  cost = _cost(jnp.matmul, _matrix(20, 30), _matrix(30, 50))
  assert cost.flops == 2 * 20 * 30 * 50
  assert cost.bytes == 4 * (20 * 30 + 30 * 50 + 20 * 50)
  assert cost.seconds == cost.flops  # more than the bytes
  assert cost.waiting == cost.collective_bytes == 0


def test_batched_product():
  form = functools.partial(jnp.einsum, 'bij,bkj->bik')
  a = jax.ShapeDtypeStruct((5, 7, 11), jnp.float32)
  b = jax.ShapeDtypeStruct((5, 13, 11), jnp.float32)
  assert _cost(form, a, b).flops == 2 * 5 * 7 * 11 * 13


def test_loops_count_every_pass():
  def scan(x, ws):
    return jax.lax.scan(lambda x, w: (x @ w, None), x, ws)[0]

  ws = jax.ShapeDtypeStruct((9, 16, 16), jnp.float32)
  assert _cost(scan, _matrix(4, 16), ws).flops == 9 * 2 * 4 * 16 * 16


def test_data_decide_how_often():
  def until_small(x):
    return jax.lax.while_loop(lambda x: x.sum() > 1, lambda x: x @ x, x)

  seen = []

  def passes(module, loop):
    seen.append(loop.opcode)
    return 2.5

  cost = _cost(until_small, _matrix(8, 8), passes=passes)
  assert cost.flops == 2.5 * 2 * 8**3
  assert cost.unknown_loops == 1
  assert seen == ['while']


def test_a_fusion_reads_and_writes_its_ends():
  cost = _cost(
    lambda x, y: jnp.sin(x + y) * 2, _matrix(64, 64), _matrix(64, 64)
  )
  assert cost.flops == 0
  assert cost.bytes == 3 * 4 * 64 * 64
  assert cost.seconds == cost.bytes


def test_slices_count_what_is_read():
  def pick(x, i):
    return jnp.sin(jax.lax.dynamic_slice_in_dim(x, i, 2))

  index = jax.ShapeDtypeStruct((), jnp.int32)
  cost = _cost(pick, _matrix(1000, 10), index)
  # Two rows are read and two written, and the index; not a thousand.
  assert 2 * 80 <= cost.bytes <= 2 * 80 + 16


def test_an_update_in_place_counts_what_is_new():
  def put(x, y, i):
    return jax.lax.dynamic_update_slice_in_dim(x, jnp.sin(y), i, axis=0)

  index = jax.ShapeDtypeStruct((), jnp.int32)
  compiled = (
    jax.jit(put, donate_argnums=0)
    .lower(_matrix(1000, 10), _matrix(2, 10), index)
    .compile()
  )
  cost = costs.measure(hlo.parse(compiled.as_text()), _SLOW)
  assert 2 * 80 <= cost.bytes <= 2 * 80 + 16


# A weight that a fusion inside a fusion only renames, and a product of it; a
# cache of which the same way leads to a slice.
_NESTED = """%rename (p: bf16[512,64]) -> bf16[64,512] {
  %p = bf16[512,64]{1,0} parameter(0)
  ROOT %b = bf16[64,512]{1,0} bitcast(%p)
}
%fused (x: bf16[8,64], w: bf16[512,64]) -> bf16[8,512] {
  %x = bf16[8,64]{1,0} parameter(0)
  %w = bf16[512,64]{1,0} parameter(1)
  %r = bf16[64,512]{1,0} fusion(%w), kind=kLoop, calls=%rename
  ROOT %d = bf16[8,512]{1,0} CONSUMER
}
ENTRY %main (x: bf16[8,64], w: bf16[512,64]) -> bf16[8,512] {
  %x = bf16[8,64]{1,0} parameter(0)
  %w = bf16[512,64]{1,0} parameter(1)
  ROOT %f = bf16[8,512]{1,0} fusion(%x, %w), kind=kOutput, calls=%fused
}
"""


@pytest.mark.parametrize(
  ('consumer', 'read'),
  [
    (
      'dot(%x, %r), lhs_contracting_dims={1}, rhs_contracting_dims={0}',
      8 * 64 + 512 * 64,
    ),
    # x is not read at all.
    ('slice(%r), slice={[0:8], [0:512]}', 8 * 512),
  ],
)
def test_what_is_renamed_is_read_by_who_takes_it(consumer, read):
  module = hlo.parse(_NESTED.replace('CONSUMER', consumer))
  cost = costs.measure(module, _SLOW)
  assert cost.bytes == 2 * (read + 8 * 512)


def _on_devices(function, out):
  mesh = jax.make_mesh((8,), ('x',), axis_types=(jax.sharding.AxisType.Auto,))
  return jax.shard_map(
    function, mesh=mesh, in_specs=P('x'), out_specs=out, check_vma=False
  )


@pytest.mark.parametrize(
  ('function', 'out', 'received'),
  [
    # 8 devices with 3 x 5 numbers each. All-gather: those of 7 others.
    (lambda x: jax.lax.all_gather(x, 'x'), P(), 7 * 60),
    # All-reduce in a ring: an eighth from each of 7 steps, twice.
    (lambda x: jax.lax.psum(x, 'x'), P(), 2 * 7 / 8 * 60),
    (
      lambda x: jax.lax.ppermute(x, 'x', [(i, (i + 1) % 8) for i in range(8)]),
      P('x'),
      60,
    ),
  ],
)
def test_collectives(function, out, received):
  x = jax.ShapeDtypeStruct((24, 5), jnp.float32)
  cost = _cost(_on_devices(function, out), x)
  assert cost.collective_bytes == received
  assert cost.waiting == received  # nothing else is there to be done


def test_all_to_all_and_reduce_scatter():
  x = jax.ShapeDtypeStruct((64, 5), jnp.float32)

  def exchange(x):
    return jax.lax.all_to_all(x, 'x', 0, 0)

  cost = _cost(_on_devices(exchange, P('x')), x)
  assert cost.collective_bytes == 7 / 8 * 8 * 5 * 4
  scatter = functools.partial(jax.lax.psum_scatter, axis_name='x')
  cost = _cost(_on_devices(scatter, P('x')), x)
  # Reduce-scatter, or what XLA makes of it on a CPU: an all-reduce.
  assert cost.collective_bytes in (7 / 8 * 160, 2 * 7 / 8 * 160)


def _convolution(left, right, out, attributes):
  """FLOPs of a convolution as a TPU's compiler writes it."""
  text = f"""ENTRY %main (a: f32[], b: f32[]) -> f32[] {{
  %a = bf16[{left}]{{1,0}} parameter(0)
  %b = bf16[{right}]{{1,0}} parameter(1)
  ROOT %c = bf16[{out}]{{1,0}} convolution(%a, %b), {attributes}
}}
"""
  body = hlo.parse(text).computations['main']
  return flops.of_product(body, body['c'])


def test_a_product_as_a_convolution():
  # Contracts f (256) and the spatial axis of the weight, whose other three
  # positions lie outside: pads of 3 leave one for each of the 4 outputs, 4 of 4
  # x 1 possible pairs in the first axis, 2 in the second.
  found = _convolution(
    '1920,2,144,1',
    '4,256,2,144',
    '1920,4,256,1',
    'window={size=4x2 pad=3_3x0_0 rhs_reversal=1x0}, '
    'dim_labels=b1f0_0o1i->b0f1',
  )
  assert found == 2 * 1920 * 4 * 256 * (2 * 144)


def test_a_batch_as_a_dilated_window():
  # Four independent products: input position 4 i meets output position i.
  found = _convolution(
    '4,7,3,5',
    '4,11,5,1',
    '4,7,3,11',
    'window={size=4x1 stride=3x1 lhs_dilate=4x1}, dim_labels=01bf_0oi1->01bf',
  )
  # For each of the 4 and of 7 positions: 3 rows, 5 features in, 11 out.
  assert found == 2 * (4 * 7) * 3 * 5 * 11


@pytest.mark.parametrize('stride', [1, 2, 3])
@pytest.mark.parametrize('pad', [0, 2])
@pytest.mark.parametrize('spread', [1, 2])
def test_valid_pairs_by_counting(stride, pad, spread):
  size, kernel, dilate = 6, 3, 2
  reach = (size - 1) * spread + 1
  out = (reach + 2 * pad - (kernel - 1) * dilate - 1) // stride + 1
  count = 0
  for o in range(out):
    for k in range(kernel):
      place = o * stride + k * dilate - pad
      count += 0 <= place < reach and place % spread == 0
  found = _convolution(
    f'1,{size},1',
    f'{kernel},1,1',
    f'1,{out},1',
    f'window={{size={kernel} stride={stride} pad={pad}_{pad} '
    f'lhs_dilate={spread} rhs_dilate={dilate}}}, dim_labels=b0f_0io->b0f',
  )
  assert found == 2 * count


def test_a_kernel_states_its_flops():
  text = """ENTRY %main (a: f32[]) -> f32[] {
  %a = bf16[8,128]{1,0} parameter(0)
  ROOT %k = bf16[8,128]{1,0} custom-call(%a), custom_call_target="tpu_custom_call", backend_config={"cost_estimate":{"flops":"4096","bytes_accessed":"1"}}
}
"""  # noqa: E501
  cost = costs.measure(hlo.parse(text), _SLOW)
  assert cost.flops == 4096
  assert cost.bytes == 2 * 8 * 128 * 2


@pytest.mark.parametrize(
  ('name', 'products'),
  [
    ('splash_mha_fwd_residuals.3', 2),
    ('splash_mha_fwd_no_residuals', 2),
    ('splash_mha_dq.1', 3),
    ('splash_mha_dkv.8', 4),
    ('another_kernel', 0),
  ],
)
@pytest.mark.parametrize('rows', [3, 1])
def test_splash_attention(rows, name, products):
  # A single row a chip: its axis is left out.
  axis, order = ('3,', '3,2,1,0') if rows > 1 else ('', '2,1,0')
  text = f"""ENTRY %main (a: f32[]) -> f32[] {{
  %m = s8[1,2,2]{{2,1,0}} parameter(0)
  %q = bf16[{axis}4,1024,256]{{{order}}} parameter(1)
  %k = bf16[{axis}2,1024,256]{{{order}}} parameter(2)
  ROOT %{name} = (f32[{axis}512,128]{{2,1,0}}, bf16[{axis}4,1024,256]{{{order}}}) custom-call(%m, %q, %k, %k), custom_call_target="tpu_custom_call"
}}
"""  # noqa: E501
  body = hlo.parse(text).computations['main']
  # Two blocks of 512: one and two of them are seen, of twice two.
  share = 3 / 4
  expected = products * 2 * rows * 4 * 1024 * 1024 * 256 * share
  assert flops.of_kernel(body, body[name]) == expected


def test_costs_add_up():
  one = costs.Cost(1, 2, 3, 4, 5, 1)
  assert one + one * 2 == costs.Cost(3, 6, 9, 12, 15, 2)


def test_same_flops_as_xla_without_loops():
  """XLA counts elementwise work too; products dominate here."""

  def two(x, w):
    return jnp.tanh(x @ w) @ w.T

  compiled = jax.jit(two).lower(_matrix(256, 512), _matrix(512, 256)).compile()
  cost = costs.measure(hlo.parse(compiled.as_text()), _SLOW)
  np.testing.assert_allclose(
    cost.flops, compiled.cost_analysis()['flops'], rtol=0.01
  )
