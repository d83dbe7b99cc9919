"""The reader, on programs as the CPU and the TPU compiler write them."""

import jax
import jax.numpy as jnp
import pytest

from experiments.planning import hlo, loops

# As a TPU's compiler writes a loop: no trip count, constants that other loops
# share in the carry (`wide`), layouts with tiles and memory spaces.
_TPU_LOOP = """HloModule jit_f, is_scheduled=true

%body (p: (s32[], f32[8,128], s32[])) -> (s32[], f32[8,128], s32[]) {
  %p = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}, /*index=2*/s32[]{:T(128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  %x = f32[8,128]{1,0:T(8,128)S(1)} get-tuple-element(%p), index=1
  %n = s32[]{:T(128)} get-tuple-element(%p), index=2
  %two = s32[]{:T(128)} constant(2)
  %j = s32[]{:T(128)} add(%i, %two), metadata={op_name="a(b)c"}
  ROOT %t = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}, s32[]{:T(128)}) tuple(%j, %x, %n)
}

%condition (q: (s32[], f32[8,128], s32[])) -> pred[] {
  %q = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}, s32[]{:T(128)}) parameter(0)
  %k = s32[]{:T(128)} get-tuple-element(%q), index=0
  %end = s32[]{:T(128)} get-tuple-element(%q), index=2
  ROOT %c = pred[]{:T(512)} compare(%k, %end), direction=LT
}

ENTRY %main (x: f32[8,128]) -> f32[8,128] {
  %x = f32[8,128]{1,0:T(8,128)} parameter(0)
  %zero = s32[]{:T(128)} constant(1)
  %nine = s32[]{:T(128)} constant(10)
  %copy = s32[]{:T(128)} copy(%nine)
  %carry = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}, s32[]{:T(128)}) tuple(%zero, %x, %copy)
  %loop = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}, s32[]{:T(128)}) while(%carry), condition=%condition, body=%body
  ROOT %out = f32[8,128]{1,0:T(8,128)} get-tuple-element(%loop), index=1
}
"""  # noqa: E501


def _compiled(function, *arguments):
  return hlo.parse(jax.jit(function).lower(*arguments).compile().as_text())


def _loops(module):
  """Trip counts of all loops."""
  return sorted(
    (
      loops.trip_count(module, body, i)
      for body in module.computations.values()
      for i in body.values()
      if i.opcode == 'while'
    ),
    key=str,
  )


def test_instructions():
  module = hlo.parse(_TPU_LOOP)
  assert module.entry == 'main'
  assert list(module.computations) == ['body', 'condition', 'main']
  body = module.computations['body']
  assert body['j'].operands == ('i', 'two')
  assert body['p'].arrays[1] == hlo.Array('f32', (8, 128))
  assert body['x'].arrays == (hlo.Array('f32', (8, 128), space=1),)
  assert body['x'].bytes == 0  # it is not in main memory
  assert body['t'].bytes == 8 * 128 * 4 + 2 * 4
  loop = module.computations['main']['loop']
  assert loop.called('body') == ['body']
  assert loop.number('condition') is None
  assert body['n'].number('index') == 2
  assert module.root('main').name == 'out'
  assert [i.name for i in module.parameters('body')] == ['p']


def test_trip_count_from_start_step_and_end():
  # 1, 3, 5, 7, 9 are below 10.
  assert _loops(hlo.parse(_TPU_LOOP)) == [5]


@pytest.mark.parametrize(
  ('old', 'new', 'expected'),
  [
    ('constant(10)', 'constant(11)', 5),
    ('constant(10)', 'constant(12)', 6),
    ('direction=LT', 'direction=NE', 5),
    # Counts away from its end: it never gets there, or at once.
    ('constant(2)', 'constant(-2)', None),
    # What is added is no constant.
    ('add(%i, %two)', 'add(%i, %i)', None),
    ('add(%i, %two)', 'multiply(%i, %two)', None),
    ('compare(%k, %end)', 'not(%k)', None),
  ],
)
def test_other_loops(old, new, expected):
  text = _TPU_LOOP.replace(old, new)
  assert text != _TPU_LOOP
  assert _loops(hlo.parse(text)) == [expected]


def test_trip_counts_of_the_cpu_compiler():
  def nested(x):
    def inner(x, _):
      return jnp.sin(x) @ x, None

    def outer(_, x):
      return jax.lax.scan(inner, x, None, length=3)[0]

    return jax.lax.fori_loop(0, 7, outer, x)

  assert _loops(_compiled(nested, jnp.ones((4, 4)))) == [3, 7]


def test_data_decide_a_loop():
  def until_small(x):
    return jax.lax.while_loop(lambda x: x.sum() > 1, lambda x: x / 2, x)

  assert _loops(_compiled(until_small, jnp.ones((4, 4)))) == [None]


@pytest.mark.parametrize(
  ('dtype', 'expected'),
  [
    ('f32', 24),
    ('bf16', 12),
    ('pred', 6),
    ('s4', 3),
    ('f8e4m3fn', 6),
    ('c64', 48),
  ],
)
def test_bytes_of_dtypes(dtype, expected):
  assert hlo.Array(dtype, (2, 3)).bytes == expected


def test_reached_follows_loops():
  module = hlo.parse(_TPU_LOOP)
  names = {i.name for i in hlo.reached(module, 'main')}
  assert {'loop', 'j', 'c'} <= names
  assert 'loop' not in {i.name for i in hlo.reached(module, 'body')}


def test_no_program_is_refused():
  with pytest.raises(ValueError, match='no ENTRY'):
    hlo.parse('HloModule nothing')
