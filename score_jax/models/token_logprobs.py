"""From hidden states to log-probabilities, without a [B, T, V] array.

The one place that shifts by one: everything indexed by t describes
`tokens[:, t]`, whose distribution comes from the hidden state at t - 1.
Log-probabilities are of logits / temperature, in float32, over the whole
vocabulary. The output layer is applied to chunks along T inside rows, and
again in the backward pass.
"""

from collections.abc import Callable

from flax import struct
import jax
import jax.numpy as jnp

from score_jax.models import config as model_config
from score_jax.models import transformer


@struct.dataclass
class TokenStatistics:
  """What the update needs of each token's distribution, f32 [B, T] each.

  Attributes:
    logprob: log pi(tokens[t] | tokens[:t]); 0 at t = 0.
    reference_logprob: the same under the reference; 0 without one.
    divergence: of policy and reference at that prefix; 0 without a reference.
    entropy: of the policy at that prefix, in nats.
  """

  logprob: jax.Array
  reference_logprob: jax.Array
  divergence: jax.Array
  entropy: jax.Array


def token_statistics(
  config: model_config.ModelConfig,
  embedding: jax.Array,
  hidden: jax.Array,
  tokens: jax.Array,
  *,
  temperature: jax.Array | float = 1.0,
  reference: tuple[jax.Array, jax.Array] | None = None,
  divergence: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
  chunk: int = 128,
) -> TokenStatistics:
  """Statistics of each token's distribution.

  Args:
    config: the model.
    embedding: the policy's tied table [V, D].
    hidden: the policy's final hidden states [B, T, D].
    tokens: i32 [B, T].
    temperature: divides the logits of policy and reference.
    reference: embedding and hidden states of the reference policy.
    divergence: of (policy logits, reference logits) [..., V] -> [...].
    chunk: tokens of a row whose logits exist at one time.
  """

  @jax.checkpoint
  def statistics(
    embedding, hidden, tokens, reference_embedding, reference_hidden
  ):
    logits = transformer.unembed(config, embedding, hidden) / temperature
    logprobs = jax.nn.log_softmax(logits)
    logprob = _pick(logprobs, tokens)
    entropy = _entropy(jax.lax.stop_gradient(logprobs))
    zero = jnp.zeros_like(logprob)
    if reference_hidden is None:
      return TokenStatistics(logprob, zero, zero, entropy)
    reference_logits = jax.lax.stop_gradient(
      transformer.unembed(config, reference_embedding, reference_hidden)
      / temperature
    )
    reference_logprob = _pick(jax.nn.log_softmax(reference_logits), tokens)
    kl = divergence(logits, reference_logits) if divergence else zero
    return TokenStatistics(logprob, reference_logprob, kl, entropy)

  reference_embedding, reference_hidden = reference or (None, None)
  inputs = (hidden[:, :-1], tokens[:, 1:], reference_hidden)
  if reference_hidden is not None:
    inputs = (*inputs[:2], reference_hidden[:, :-1])
  length = tokens.shape[1] - 1
  num_chunks = -(-length // chunk)
  size = -(-length // num_chunks)

  def split(x):
    """[B, T, ...] -> [chunks, B, size, ...], padded at the end."""
    pad = [(0, 0)] * x.ndim
    pad[1] = (0, num_chunks * size - length)
    x = jnp.pad(x, pad).reshape(x.shape[0], num_chunks, size, *x.shape[2:])
    return jnp.moveaxis(x, 1, 0)

  def join(x):
    """[chunks, B, size] -> [B, T], 0 at t = 0."""
    x = jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1)[:, :length]
    return jnp.pad(x, ((0, 0), (1, 0)))

  def scan_chunk(_, pieces):
    hidden, targets, reference_hidden = pieces
    return None, statistics(
      embedding, hidden, targets, reference_embedding, reference_hidden
    )

  _, chunks = jax.lax.scan(scan_chunk, None, jax.tree.map(split, inputs))
  return jax.tree.map(join, chunks)


def _pick(values: jax.Array, tokens: jax.Array) -> jax.Array:
  """values[..., tokens] by a one-hot sum: no gather over a sharded V."""
  onehot = tokens[..., None] == jnp.arange(values.shape[-1])[None, None]
  return jnp.sum(jnp.where(onehot, values, 0.0), axis=-1)


def _entropy(logprobs: jax.Array) -> jax.Array:
  """In nats; a logit at minus infinity counts for nothing."""
  possible = logprobs > -jnp.inf
  terms = jnp.where(possible, jnp.exp(logprobs) * logprobs, 0.0)
  return -jnp.sum(terms, axis=-1)
