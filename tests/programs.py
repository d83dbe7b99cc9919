"""The episode and the update as compiled programs, and what is in them.

Everything is lowered from shapes alone: no weight exists, so that models of
any size can be looked at.
"""

from collections.abc import Iterator
import dataclasses
import functools
import math
import re
from typing import Any

import jax
import jax.numpy as jnp

from score_jax import arrays
from score_jax.algorithm import stages
from score_jax.models import config as model_config
from score_jax.models import transformer
from score_jax.rollout import engine
from score_jax.training import optimizer as optimizer_lib
from score_jax.training import step


@dataclasses.dataclass(frozen=True)
class Sizes:
  """Of an episode.

  Attributes:
    problems: N.
    samples: G.
    prompt: P, the bucket.
    limits: of the attempts.
    block: I, the longest text between attempts.
  """

  problems: int
  samples: int
  prompt: int
  limits: tuple[int, ...]
  block: int

  @property
  def rows(self) -> int:
    """B."""
    return self.problems * self.samples

  @property
  def length(self) -> int:
    """T."""
    return engine.row_length(self.prompt, self.limits, self.block)


def _shape(dims, dtype=jnp.int32, sharding=None):
  return jax.ShapeDtypeStruct(dims, dtype, sharding=sharding)


def _place(tree, shardings):
  """Shapes with their shardings; None: wherever the program likes."""
  if shardings is None:
    return tree
  return jax.tree.map(
    lambda s, sharding: _shape(s.shape, s.dtype, sharding), tree, shardings
  )


def lower_episode(
  config: model_config.ModelConfig,
  sizes: Sizes,
  *,
  dtype=jnp.float32,
  transposed: bool | None = None,
  replicated: Any = None,
  by_row: Any = None,
):
  """Lowers `engine.sample_episodes`.

  Args:
    config: the model.
    sizes: of the episode.
    dtype: of weights, activations and cache.
    transposed: layout of the cache.
    replicated: sharding of weights and tables; None: the default device.
    by_row: sharding of what has a row for each problem or sample.
  """
  params = jax.eval_shape(
    lambda key: engine.rollout_view(
      transformer.init_params(config, key), dtype
    ),
    jax.random.key(0),
  )
  params = jax.tree.map(lambda s: _shape(s.shape, s.dtype, replicated), params)
  between = len(sizes.limits) - 1
  table = _shape((between, sizes.block), sharding=replicated)
  count = _shape((between,), sharding=replicated)
  key = jax.eval_shape(lambda: jax.random.key(0)).dtype
  episode = functools.partial(
    engine.sample_episodes,
    config=config,
    limits=sizes.limits,
    samples_per_problem=sizes.samples,
    dtype=dtype,
    cache_dtype=dtype,
    transposed=transposed,
  )
  # Without it the compiler may gather what it returns, at every token.
  out = {} if by_row is None else {'out_shardings': by_row}
  return jax.jit(episode, **out).lower(
    params,
    arrays.Prompts(
      _shape((sizes.problems, sizes.prompt), sharding=by_row),
      _shape((sizes.problems,), sharding=by_row),
    ),
    _shape((sizes.rows,), key, by_row),
    engine.Boundaries(
      table, count, table, count, _shape((2,), sharding=replicated)
    ),
  )


def lower_update(
  config: model_config.ModelConfig,
  batch_size: int,
  length: int,
  *,
  turns: int = 2,
  shardings: Any = None,
  replicated: Any = None,
  by_row: Any = None,
  reference_dtype=jnp.float32,
  **options,
):
  """Lowers the update of `training.step`.

  Args:
    config: the model.
    batch_size: B.
    length: T.
    turns: K.
    shardings: of the parameters; None: the default device.
    replicated: sharding of numbers.
    by_row: sharding of what has a row for each episode.
    reference_dtype: of the reference policy's weights.
    **options: of `step.make_train_step`.
  """
  optimizer = optimizer_lib.make_optimizer(1e-5)
  shapes = jax.eval_shape(
    functools.partial(transformer.init_params, config), jax.random.key(0)
  )
  if shardings is not None:
    options['shardings'] = step.state_shardings(optimizer, shapes, shardings)
  params = _place(shapes, shardings)
  moments = jax.eval_shape(optimizer.init, params)
  number = functools.partial(_shape, (), sharding=replicated)
  state = arrays.TrainState(
    step=number(),
    params=params,
    opt_state=_like_params(moments, params, replicated),
    beta2=number(jnp.float32),
    skipped=number(),
  )
  per_token = functools.partial(_shape, (batch_size, length), sharding=by_row)
  per_turn = functools.partial(_shape, (batch_size, turns), sharding=by_row)
  per_row = functools.partial(_shape, (batch_size,), sharding=by_row)
  batch = arrays.TrainBatch(
    arrays.Trajectory(
      tokens=per_token(),
      turn=per_token(),
      sampled=per_turn(jnp.bool_),
      logprobs=per_token(jnp.float32),
      length=per_row(),
      finished=per_turn(jnp.bool_),
      problem_index=per_row(),
    ),
    advantages=per_turn(jnp.float32),
  )
  stage = jax.tree.map(
    lambda x: _shape(jnp.shape(x), jnp.result_type(x), replicated),
    stages.stage_two(),
  )
  reference = jax.tree.map(
    lambda s: _shape(s.shape, reference_dtype, s.sharding), params
  )
  train_step = step.make_train_step(config, optimizer, **options)
  return train_step.lower(state, reference, batch, per_turn(jnp.bool_), stage)


def _like_params(opt_state, params, replicated):
  """Moments of Adam, sharded as the parameters that they belong to."""
  structure = jax.tree.structure(params)

  def is_moments(node):
    return jax.tree.structure(node) == structure

  def place(node):
    if is_moments(node):
      return jax.tree.map(
        lambda s, p: _shape(s.shape, s.dtype, p.sharding), node, params
      )
    return _shape(node.shape, node.dtype, replicated)

  return jax.tree.map(place, opt_state, is_leaf=is_moments)


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of a compiled program.

  Attributes:
    opcode: such as 'copy' or 'fusion'.
    name: given by the compiler, tells what a fusion does.
    dims: of the result; the largest, if it is a tuple.
    dtype: of it.
    computation: in which the line stands.
    line: the line itself.
  """

  opcode: str
  name: str
  dims: tuple[int, ...]
  dtype: str
  computation: str
  line: str

  @property
  def elements(self) -> int:
    """Of the (largest) result."""
    return math.prod(self.dims)


_HEAD = re.compile(r'^(?:ENTRY )?%?([\w.\-]+) .*\{$')
_LINE = re.compile(r'^\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([\w\-]+)\(')
_ARRAY = re.compile(r'(\w+)\[([\d,]*)\]')


def instructions(text: str) -> Iterator[Instruction]:
  """Instructions of `compiled.as_text()`."""
  computation = ''
  for line in text.splitlines():
    if head := _HEAD.match(line):
      computation = head[1]
    elif found := _LINE.match(line):
      name, result, opcode = found.groups()
      sizes = [
        (tuple(int(d) for d in dims.split(',') if d), dtype)
        for dtype, dims in _ARRAY.findall(result)
      ]
      if sizes:
        dims, dtype = max(sizes, key=lambda size: math.prod(size[0]))
        yield Instruction(opcode, name, dims, dtype, computation, line.strip())


def loop_bodies(text: str) -> set[str]:
  """Names of the computations that run once a pass of some loop."""
  called = {}
  bodies = set()
  for i in instructions(text):
    names = set(re.findall(r'(?:to_apply|body|calls)=%?([\w.\-]+)', i.line))
    if i.opcode == 'while':
      bodies |= names
    if i.opcode != 'fusion':  # what is inside a fusion is never stored
      called.setdefault(i.computation, set()).update(names)
  reached = set()
  todo = list(bodies)
  while todo:
    name = todo.pop()
    if name not in reached:
      reached.add(name)
      todo += called.get(name, ())
  return reached


def copies_in_loops(text: str, elements: int) -> list[Instruction]:
  """What copies arrays of at least so many elements inside loops."""
  bodies = loop_bodies(text)
  moving = ('copy', 'transpose', 'concatenate', 'pad', 'copy-start', 'reverse')
  return [
    i
    for i in instructions(text)
    if i.computation in bodies
    and i.elements >= elements
    and (
      i.opcode in moving
      or (i.opcode == 'fusion' and re.search('copy|transpose|pad', i.name))
    )
  ]


def stored_arrays(text: str) -> Iterator[Instruction]:
  """Instructions whose results are buffers: none from inside fusions."""
  fused = set(re.findall(r'kind=k\w+, calls=%?([\w.\-]+)', text))
  return (i for i in instructions(text) if i.computation not in fused)
