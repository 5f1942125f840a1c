"""CycleGAN (Zhu et al., ICCV 2017) with ISCL's networks and averages: row (A) of ISCL's Table I, and the rival of its Figure 7."""

from __future__ import annotations

from dataclasses import replace

from pairfree.methods import iscl

# Departs from the paper: Networks, hinge loss, RAdam, SWA, Lookahead and the weight of the cycle (30, not 10) are ISCL's, as in the
# comparison of its Figure 7, which has no identity loss; here it has half the weight of the cycle, as in the authors' code. A critic gives
# one score a patch, not a map of them; critics see the latest images, not a pool of older ones.
# Departs from the paper: `cpu`: half as many channels, two residual blocks instead of three, critics without normalisation, batches of 8, a
# rate that is seven times as high, each network's output computed once a step; bfloat16 convolutions where they are faster.
PRESETS = {
    name: replace(preset, extract=False, bypass=False, boost=False, noise_consistency=False, identity=0.5)
    for name, preset in {"cpu": iscl.SCRATCH, "paper": iscl.PRESETS["paper"]}.items()
}


class CycleGAN(iscl.ISCL):
    key = "cyclegan"
    title = "CycleGAN, with ISCL's networks and averages"
    citation = "Zhu et al., Unpaired image-to-image translation using cycle-consistent adversarial networks, ICCV 2017, arXiv:1703.10593"

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.citation, iscl.ISCL.citation)
