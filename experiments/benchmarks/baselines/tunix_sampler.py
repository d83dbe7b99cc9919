"""Tunix's sampler. Needs requirements-peers.txt; see ../rollout.py."""

import sys

from flax import nnx
import jax
import jax.numpy as jnp
from tunix.generate import sampler as sampler_lib
from tunix.models.gemma import model as gemma

from experiments.benchmarks import serving, workload


class Ids:
  """A tokenizer for the sampler: its text is the ids themselves."""

  def encode(self, text: str) -> list[int]:
    """Ids of 'i j k'."""
    return [int(word) for word in text.split()]

  def decode(self, ids: list[int]) -> str:
    """Text of ids, the inverse of `encode`."""
    return ' '.join(map(str, ids))

  def bos_id(self) -> int:
    """Id of BOS, which is put before no prompt here."""
    return 0

  def eos_id(self) -> int:
    """Id of the stop token."""
    return workload.STOP

  def pad_id(self) -> int:
    """Id of the padding."""
    return workload.PAD


def model(work: workload.Workload) -> gemma.Gemma:
  """The workload's model, in its dtype."""
  kinds = (gemma.AttentionType.LOCAL_SLIDING, gemma.AttentionType.GLOBAL)
  config = gemma.ModelConfig(
    num_layers=work.layers,
    num_embed=work.vocab,
    embed_dim=work.width,
    hidden_dim=work.mlp,
    num_heads=work.heads,
    head_dim=work.head_dim,
    num_kv_heads=work.kv_heads,
    final_logit_softcap=30.0,
    use_post_attn_norm=True,
    use_post_ffw_norm=True,
    attention_types=kinds * (work.layers // 2),
    attn_logits_soft_cap=50.0,
    sliding_window_size=work.window,
  )
  network = gemma.Gemma(config, rngs=nnx.Rngs(0))
  graph, state = nnx.split(network)
  dtype = jnp.dtype(work.dtype)
  return nnx.merge(graph, jax.tree.map(lambda p: p.astype(dtype), state))


def rollout(work: workload.Workload):
  """Two calls; the second one's prompts hold the first attempt.

  Each call has the smallest cache that suffices, and ends with the longest
  attempt of the batch.
  """
  network = model(work)
  tokenizer = Ids()
  lengths = work.attempt_lengths()
  longest = lengths.max(axis=0)
  widths = (work.prompt, work.prompt + int(longest[0]) + work.instruction)
  samplers = [
    sampler_lib.Sampler(
      network,
      tokenizer,
      sampler_lib.CacheConfig(
        width + int(new), work.layers, work.kv_heads, work.head_dim
      ),
    )
    for width, new in zip(widths, longest, strict=True)
  ]

  def generate(turn, rows):
    return samplers[turn](
      [tokenizer.decode(row) for row in rows],
      max_generation_steps=int(longest[turn]),
      max_prompt_length=widths[turn],
      forbidden_tokens=(workload.STOP,),
      temperature=1.0,
      top_p=1.0,
      seed=turn,
    ).tokens

  def run():
    prompts = work.prompts().tolist()
    first = generate(0, prompts)
    rows = [
      prompt + [int(t) for t in attempt[:n]] + work.between().tolist()
      for prompt, attempt, n in zip(prompts, first, lengths[:, 0], strict=True)
    ]
    generate(1, rows)

  return run


if __name__ == '__main__':
  job = workload.Workload.from_json(sys.argv[2])
  serving.serve(lambda: rollout(job))
