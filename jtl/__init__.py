"""jtl: transfer learning in JAX. Probe, fine-tune and adapt pretrained backbones."""

__version__ = "0.1.0"
