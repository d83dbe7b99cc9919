"""What a TPU chip can do, and the slices that it comes in."""
import dataclasses
@dataclasses.dataclass(frozen=True)
class Chip:
  name: str
  flops: float
  memory: float
  bandwidth: float
  interconnect: float
CHIPS={'v5e':Chip('v5e',197e12,16e9,819e9,9e10)}
