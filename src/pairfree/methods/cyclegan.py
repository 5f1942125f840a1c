"""CycleGAN (Zhu et al., ICCV 2017) with ISCL's networks and averages: ISCL without what needs an extractor.

Row (A) of ISCL's Table I, and the rival of its Figure 7.
"""

from __future__ import annotations

from dataclasses import replace

from pairfree.methods.iscl import ISCL, ISCLConfig
from pairfree.methods.iscl_short import SCRATCH, ShortISCL, ShortISCLConfig


def without_extractor(config: ISCLConfig) -> ISCLConfig:
    """What makes ISCL a CycleGAN: no H, nothing that H takes part in, and an identity loss."""
    return replace(
        config, extract=False, bypass=False, boost=False, noise_consistency=False, identity=0.5
    )


# Departs from the paper: Networks, hinge loss, RAdam, SWA, Lookahead and the weight of the cycle (30, not 10)
# are ISCL's, as in the comparison of its Figure 7, which has no identity loss; here it has half the weight of
# the cycle, as in the authors' code. A critic gives one score a patch, not a map of them; critics see the
# latest images, not a pool of older ones.
# Departs from the paper: `cpu`: half as many channels, two residual blocks instead of three, critics without
# normalisation, batches of 8, a rate that is seven times as high, each network's output computed once a step;
# bfloat16 convolutions where they are faster.
PRESETS = {"cpu": without_extractor(SCRATCH), "paper": without_extractor(ISCLConfig())}


class CycleGAN(ISCL):
    """Algorithm 1 without H.

    F and G descend L_F + L_G + lambda (L_cycle + L_identity / 2), D_X and D_Y eq. (8).
    """

    key = "cyclegan"
    title = "CycleGAN, with ISCL's networks and averages"
    citation = (
        "Zhu et al., Unpaired image-to-image translation using cycle-consistent adversarial networks, "
        "ICCV 2017, arXiv:1703.10593"
    )

    @property
    def sources(self) -> tuple[str, ...]:
        """The method's paper, and that whose networks it takes."""
        return (self.citation, ISCL.citation)


class ShortCycleGAN(CycleGAN, ShortISCL):
    """The same for settings that name what ISCL's short preset adds, its networks or its optimiser."""

    config_type = ShortISCLConfig
    config: ShortISCLConfig
