"""Makes adapter.safetensors: what the `adapters` library computes for Houlsby's bottleneck, and its gradients.

pip install torch==2.13.0 adapters==1.3.0    # in an environment of its own: it wants an older transformers than peft
python tests/oracles/make_adapter_fixture.py
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

adapters: Any = import_module("adapters")
modeling: Any = import_module("adapters.methods.modeling")

WIDTH, BOTTLENECK = 32, 8


def main() -> None:
    """Write the file beside this one: inputs h, cotangents, D, d, U, u, outputs, and gradients, all float64."""
    torch.manual_seed(0)
    config: Any = adapters.BnConfig(
        mh_adapter=False,
        output_adapter=True,
        reduction_factor=WIDTH / BOTTLENECK,
        non_linearity="relu",
        init_weights="houlsby",
        original_ln_before=False,
        original_ln_after=False,
        residual_before_ln=True,
    )
    module: Any = modeling.Adapter("oracle", input_size=WIDTH, down_sample=BOTTLENECK, config=config).double()
    parameters: list[torch.Tensor] = [
        module.adapter_down[0].weight,
        module.adapter_down[0].bias,
        module.adapter_up.weight,
        module.adapter_up.bias,
    ]
    with torch.no_grad():
        for parameter in parameters:
            parameter.copy_(torch.randn(parameter.shape))
    h = torch.randn(6, WIDTH, dtype=torch.float64, requires_grad=True)
    out: torch.Tensor = module(h, residual_input=h)[0]
    cotangent = torch.randn_like(out)
    gradients = torch.autograd.grad(out, [*parameters, h], cotangent)
    D, d, U, u = parameters  # noqa: N806
    tensors = {"h": h, "out": out, "cotangent": cotangent, "D": D.t(), "d": d, "U": U.t(), "u": u}
    names = ("D", "d", "U", "u", "h")
    tensors |= {f"grad_{name}": g.t() if name in ("D", "U") else g for name, g in zip(names, gradients, strict=True)}
    written = save({name: t.detach().contiguous() for name, t in tensors.items()}, {"made_by": "adapters 1.3.0"})
    Path(__file__).with_name("adapter.safetensors").write_bytes(written)


if __name__ == "__main__":
    main()
