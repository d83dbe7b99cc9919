"""Orbax checkpoints as Google publishes them, written from our parameters.

Written head by head with loops, so that the importer is compared with code that
does not share its index arithmetic.
"""

import pathlib
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from score_jax.models import model_config, transformer

Style = Literal['flat', 'nested', 'trainer']


def write(
  path: pathlib.Path,
  config: model_config.ModelConfig,
  params: Any,
  *,
  style: Style = 'flat',
  transpose_gating: bool = False,
  padded_vocab: int | None = None,
  dtype: Any = np.float32,
  change=None,
  one_store: bool = True,
) -> pathlib.Path:
  """Writes a checkpoint; `change` may alter its flat dict of tensors."""
  tensors = flatten(
    config, params, transpose_gating, padded_vocab or config.vocab_size
  )
  tensors = {n: jnp.asarray(t, dtype) for n, t in tensors.items()}
  if change:
    change(tensors)
  save(path, arrange(tensors, style), one_store=one_store)
  return path


def save(path: pathlib.Path, tree: Any, *, one_store: bool = True) -> None:
  """Writes a tree with Orbax; without `one_store`, a directory per tensor."""
  handler = ocp.PyTreeCheckpointHandler(use_ocdbt=one_store)
  with ocp.Checkpointer(handler) as checkpointer:
    checkpointer.save(path, args=ocp.args.PyTreeSave(tree))


def arrange(tensors: dict[str, Any], style: Style) -> dict[str, Any]:
  """Arranges tensors, named as in the nested style, as a style's tree."""
  if style == 'flat':  # two levels
    tree = {}
    for name, tensor in tensors.items():
      if name.endswith(('/gating_einsum', '/linear')):
        name += '/w'
      parent, _, last = name.rpartition('/')
      if not parent.startswith('SigLiP'):
        parent = f'transformer/{parent}'
      tree.setdefault(parent, {})[last] = tensor
    return tree
  tree = {}
  for name, tensor in tensors.items():
    *parents, last = name.split('/')
    inner = tree
    for parent in parents:
      inner = inner.setdefault(parent, {})
    inner[last] = tensor
  if style == 'trainer':
    moments = jax.tree.map(jnp.zeros_like, tree)
    return {'params': tree, 'opt_state': {'mu': moments}, 'step': jnp.int32(3)}
  return tree


def flatten(config, params, transpose_gating, rows) -> dict[str, np.ndarray]:
  """Returns the tensors by their names in the nested style."""
  params = jax.device_get(params)
  h = config.head_dim
  table = np.full((rows, config.width), 7, np.float32)  # what padding holds
  table[: config.vocab_size] = params['embedding']
  tensors = {
    'embedder/input_embedding': table,
    'final_norm/scale': params['final_norm']['scale'],
  }
  for i in range(config.num_layers):
    layer = transformer.layer_params(config, params, i)
    attention, mlp = layer['attention'], layer['mlp']

    def heads(name, count, attention=attention):
      w = attention[name]
      return [w[:, n * h : (n + 1) * h] for n in range(count)]

    q = heads('q', config.num_heads)
    k, v = (heads(name, config.num_kv_heads) for name in 'kv')
    prefix = f'layer_{i}'
    if len(q) == len(k):
      tensors[f'{prefix}/attn/qkv_einsum/w'] = np.array([q, k, v])
    else:
      tensors[f'{prefix}/attn/q_einsum/w'] = np.array(q)
      tensors[f'{prefix}/attn/kv_einsum/w'] = np.array([k, v])
    tensors[f'{prefix}/attn/attn_vec_einsum/w'] = np.array(
      [attention['o'][n * h : (n + 1) * h] for n in range(config.num_heads)]
    )
    gating = [mlp['gate'], mlp['up']]
    if transpose_gating:
      gating = [w.T for w in gating]
    tensors[f'{prefix}/mlp/gating_einsum'] = np.array(gating)
    tensors[f'{prefix}/mlp/linear'] = mlp['down']
    norms = {
      'pre_attention_norm': layer['pre_attention_norm'],
      'pre_ffw_norm': layer['pre_mlp_norm'],
    }
    if config.post_norms:
      norms['post_attention_norm'] = layer['post_attention_norm']
      norms['post_ffw_norm'] = layer['post_mlp_norm']
    if config.qk_norm:
      norms['attn/_query_norm'] = attention['q_norm']
      norms['attn/_key_norm'] = attention['k_norm']
    for name, norm in norms.items():
      tensors[f'{prefix}/{name}/scale'] = norm['scale']
  return tensors
