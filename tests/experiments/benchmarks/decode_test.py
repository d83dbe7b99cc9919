"""Cycles of a compiled decode loop, from a text that was added up by hand."""

from experiments.benchmarks import decode

# The shape of what a TPU's compiler prints: a loop over turns around the loop
# over tokens, which alone makes logits, [3, 50] of 50 words.
_TEXT = """
%fused.1 (p: f32[3,8]) -> f32[3,8] {
  ROOT %a = f32[3,8]{1,0} add(%p, %p)
}
%one_segment (p: f32[3,8]) -> f32[3,8] {
  ROOT %b = f32[3,8]{1,0} fusion(%p), calls=%fused.1, {"estimated_cycles":"100"}
}
%two_segments (p: f32[3,8]) -> f32[3,8] {
  %c = f32[3,8]{1,0} fusion(%p), calls=%fused.1, {"estimated_cycles":"150"}
  ROOT %d = f32[3,8]{1,0} fusion(%c), calls=%fused.1, {"estimated_cycles":"50"}
}
%step (p: f32[3,8]) -> f32[3,8] {
  %scatter_fusion.3 = f32[3,8]{1,0} fusion(%p), calls=%fused.1
  %e = f32[3,8]{1,0} dynamic-update-slice(%p, %p)
  %f = f32[3,8]{1,0} conditional(%i, %p, %p), \
branch_computations={%one_segment, %two_segments}
  %g = f32[3,8]{1,0} conditional(%i, %f, %f), \
branch_computations={%one_segment, %two_segments}
  ROOT %h = f32[3,50]{1,0} fusion(%g), calls=%fused.1, {"estimated_cycles":"7"}
}
%turn (p: f32[3,8]) -> f32[3,8] {
  ROOT %w = f32[3,8]{1,0} while(%p), condition=%fused.1, body=%step
}
ENTRY %main (p: f32[3,8]) -> f32[3,8] {
  ROOT %v = f32[3,8]{1,0} while(%p), condition=%fused.1, body=%turn
}
"""


def test_cycles_by_segment():
  [loop] = decode.decode_loops(_TEXT, 50)
  # Two layers, each of which chooses among two segments, beside the logits' 7.
  assert loop == decode.Loop(3, (207, 407), scatters=1, slices=1)


def test_a_loop_without_a_choice():
  text = _TEXT.replace('conditional', 'call')
  [loop] = decode.decode_loops(text, 50)
  assert loop.cycles == (7,)
  assert list(decode.decode_loops(_TEXT, 51)) == []
