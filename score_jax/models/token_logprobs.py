"""Log-probabilities from hidden states, without a [B, T, V] array.

Only this file shifts by one: everything indexed by t describes `tokens[:, t]`,
whose distribution comes from the hidden state at t - 1. Log-probabilities are
of logits / temperature, in float32, over the whole vocabulary. The output layer
is applied to chunks along T, and recomputed in the backward pass.

Shapes: B sequences, T tokens, A targets of a sequence, V vocabulary, D width.
"""

from collections.abc import Callable

from flax import struct
import jax
import jax.numpy as jnp

from score_jax.models import model_config, transformer


@struct.dataclass
class TokenStatistics:
  """Statistics of each token's distribution for the update, f32 [B, T] each.

  Attributes:
    logprob: log pi(tokens[t] | tokens[:t]); 0 at t = 0.
    reference_logprob: the same under the reference policy; 0 without one.
    divergence: of policy and reference given tokens[:t], such as their KL; 0
      without a reference.
    entropy: of the policy given tokens[:t], in nats.
  """

  logprob: jax.Array
  reference_logprob: jax.Array
  divergence: jax.Array
  entropy: jax.Array


def attempt_index(turn: jax.Array, width: int) -> jax.Array:
  """Returns the indices of attempt tokens, so that only they cost logits.

  Args:
    turn: i32 [B, T], 0 for tokens of no attempt; 0 for the first token.
    width: A, at least the number of attempt tokens of any sequence.

  Returns:
    i32 [B, A], attempt tokens in order, then tokens of turn 0 as padding.
  """
  return jnp.argsort(turn == 0, axis=1, stable=True)[:, :width]


def states_before(hidden: jax.Array, index: jax.Array) -> jax.Array:
  """Returns the hidden states [B, A, D] that predict the tokens at `index`.

  Args:
    hidden: [B, T, D].
    index: i32 [B, A].
  """
  before = jnp.maximum(index - 1, 0)
  return jnp.take_along_axis(hidden, before[:, :, None], axis=1)


def token_statistics(
  config: model_config.ModelConfig,
  embedding: jax.Array,
  hidden: jax.Array,
  tokens: jax.Array,
  *,
  reference: tuple[jax.Array, jax.Array] | None = None,
  **options,
) -> TokenStatistics:
  """Returns statistics of every token, f32 [B, T] each, 0 at t = 0.

  Args:
    config: the model.
    embedding: the policy's tied table [V, D].
    hidden: the policy's final hidden states [B, T, D].
    tokens: i32 [B, T].
    reference: embedding and hidden states [B, T, D] of the reference policy.
    **options: passed to `target_statistics`.
  """
  if reference is not None:
    reference = (reference[0], reference[1][:, :-1])
  statistics = target_statistics(
    config,
    embedding,
    hidden[:, :-1],
    tokens[:, 1:],
    reference=reference,
    **options,
  )
  return jax.tree.map(lambda x: jnp.pad(x, ((0, 0), (1, 0))), statistics)


def target_statistics(
  config: model_config.ModelConfig,
  embedding: jax.Array,
  hidden: jax.Array,
  targets: jax.Array,
  *,
  temperature: jax.Array | float = 1.0,
  reference: tuple[jax.Array, jax.Array] | None = None,
  divergence: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
  chunk: int = 128,
) -> TokenStatistics:
  """Returns statistics of targets, f32 [B, A] each.

  Args:
    config: the model.
    embedding: the policy's tied table [V, D].
    hidden: the policy's hidden states [B, A, D] that predict the targets.
    targets: i32 [B, A].
    temperature: divides the logits of policy and reference.
    reference: embedding and hidden states [B, A, D] of the reference policy.
    divergence: of (policy logits, reference logits) [..., V] -> [...].
    chunk: number of targets of a sequence whose logits exist at one time.
  """

  # Logits of a chunk are recomputed in the backward pass instead of kept; the
  # embedding is cast inside, so that its gradient sums over chunks in float32.
  @jax.checkpoint
  def statistics(
    embedding, hidden, targets, reference_embedding, reference_hidden
  ):
    logits = transformer.unembed(config, embedding, hidden) / temperature
    logprob = _logprob(logits, targets)
    # Entropy is a metric; without a gradient it costs nothing backward.
    entropy = _entropy(jax.lax.stop_gradient(jax.nn.log_softmax(logits)))
    zero = jnp.zeros_like(logprob)
    if reference_hidden is None:
      return TokenStatistics(logprob, zero, zero, entropy)
    reference_logits = jax.lax.stop_gradient(
      transformer.unembed(config, reference_embedding, reference_hidden)
      / temperature
    )
    reference_logprob = _logprob(reference_logits, targets)
    kl = divergence(logits, reference_logits) if divergence else zero
    return TokenStatistics(logprob, reference_logprob, kl, entropy)

  reference_embedding, reference_hidden = reference or (None, None)
  length = targets.shape[1]
  # Chunks along A inside sequences: flattening the batch would reshard it.
  num_chunks = -(-length // chunk)
  size = -(-length // num_chunks)

  def split(x):
    """[B, A, ...] -> [chunks, B, size, ...], padded at the end."""
    pad = [(0, 0)] * x.ndim
    pad[1] = (0, num_chunks * size - length)
    x = jnp.pad(x, pad).reshape(x.shape[0], num_chunks, size, *x.shape[2:])
    return jnp.moveaxis(x, 1, 0)

  def join(x):
    """[chunks, B, size] -> [B, A]."""
    return jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1)[:, :length]

  def scan_chunk(_, pieces):
    hidden, targets, reference_hidden = pieces
    return None, statistics(
      embedding, hidden, targets, reference_embedding, reference_hidden
    )

  inputs = (hidden, targets, reference_hidden)
  _, chunks = jax.lax.scan(scan_chunk, None, jax.tree.map(split, inputs))
  return jax.tree.map(join, chunks)


def _logprob(logits: jax.Array, targets: jax.Array) -> jax.Array:
  """Returns log softmax(logits)[targets]."""
  # A one-hot sum, so that no gather crosses shards of V.
  onehot = targets[..., None] == jnp.arange(logits.shape[-1])[None, None]
  picked = jnp.sum(jnp.where(onehot, logits, 0.0), axis=-1)
  return picked - jax.nn.logsumexp(logits, axis=-1)


def _entropy(logprobs: jax.Array) -> jax.Array:
  """Entropy in nats; padded logits of minus infinity contribute 0."""
  possible = logprobs > -jnp.inf
  terms = jnp.where(possible, jnp.exp(logprobs) * logprobs, 0.0)
  return -jnp.sum(terms, axis=-1)
