"""What a bundle tells beside scores, from the eager net: the reference that every graph of it is held against.

The attention is read off the net while it scores, so it is what the scores are made of and no second computation.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from model.bundle.encode import Tensors
from model.halves import Probe, replaced_recurrences, to_torch
from model.nets import Net
from model.nets.explained import READS, UPDATES, Explained


def attention_of(net: nn.Module, tensors: Mapping[str, Tensor]) -> Tensor | None:
    """The weights [U, C, L] with which a net scores these requests and candidates; None for one without attention."""
    attention = dict(net.named_children()).get("attention")
    if attention is None:
        return None
    seen: list[Tensor] = []
    hook = attention.register_forward_hook(lambda module, args, output: seen.append(output))
    try:
        with torch.inference_mode():
            net.eval()(tensors, tensors)
    finally:
        hook.remove()
    return seen[-1]


def eager_explanation(net: Net, request: Tensors, candidates: Tensors) -> Tensors:
    """`attention` and, of a net with a loop per candidate, `update` [U, C, L]; nothing for a net without attention."""
    tensors = to_torch({**request, **candidates})
    attention_UCL = attention_of(net, tensors)
    if attention_UCL is None:
        return {}
    with torch.inference_mode():
        found = explain(net, {**net.encode_user(tensors), **tensors})
    return {name: tensor.numpy() for name, tensor in {**found, "attention": attention_UCL}.items()}


def explain(net: Net, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`attention` and `update` from state and candidates, of a net with attention."""
    with replaced_recurrences(net, UPDATES):
        found: dict[str, Tensor] = explained_half(net)(tensors)
    return found


def explained_half(net: Net) -> Explained:
    """The part of a net with attention that a graph is made of, while its loops are replaced."""
    return Explained(net).eval()  # type: ignore[arg-type]  # a net with attention is one of those


def explain_probes(net: Net, probes: list[Probe]) -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]:
    """Inputs and outputs of the graph at every probe; both empty for a net without attention."""
    if "attention" not in dict(net.named_children()):
        return [], []
    tensors = [{**p.state, **p.candidates} for p in probes]
    inputs = [{name: t[name] for name in READS if name in t} for t in tensors]
    with torch.no_grad():
        return inputs, [explain(net, one) for one in inputs]
