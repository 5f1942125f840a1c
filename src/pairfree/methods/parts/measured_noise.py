"""Noise that is measured instead of learned: a Gaussian copula in the place of the W-GAN."""

from __future__ import annotations

from dataclasses import dataclass

from pairfree.measure.copula import REACH_PX, TABLE_END, Copula, fit_copula
from pairfree.measure.noise_patches import NoisePatches
from pairfree.methods.parts.imitation import Imitation, ImitationConfig
from pairfree.nets.gan2gan import CopulaNoise, NoiseGenerator

COPULA_PATCHES = 4000
"""Enough for a distribution and 33 x 33 correlations; the W-GAN gets the paper's 20,000."""


@dataclass(frozen=True)
class MeasuredNoiseConfig(ImitationConfig):
    """Settings of an imitation that is the W-GAN or the copula."""

    generator: str = "wgan"
    """What imitates the noise: "wgan", g1 of the papers, or "copula", measured and not trained
    (``measure.copula``)."""

    def generator_problems(self) -> list[str]:
        """What is wrong with the settings of what imitates the noise."""
        if self.generator == "copula":
            return []
        if self.generator != "wgan":
            return [f"generator = {self.generator!r} must be wgan or copula"]
        return super().generator_problems()


class MeasuredNoise(Imitation):
    """Makes noise with g1, or with a copula: then there is nothing to train but the denoiser."""

    config: MeasuredNoiseConfig
    copula: CopulaNoise | None = None

    @property
    def is_measured(self) -> bool:
        """Whether the noise is the copula's."""
        return self.config.generator == "copula"

    def build_generative_model(self, channels: int) -> None:
        """Generators and critics of the W-GAN; none beside a copula."""
        if not self.is_measured:
            super().build_generative_model(channels)

    @property
    def most_patches(self) -> int:
        """Patches that are cut out at most."""
        return COPULA_PATCHES if self.is_measured else super().most_patches

    def learn_noise(self, found: NoisePatches, grown: bool = False) -> None:
        """With a copula, that is all there is to learn of the noise; see ``Imitation.learn_noise``."""
        if not self.is_measured:
            super().learn_noise(found, grown)
            return
        self.keep_for_report(found, grown)
        self.draw_from(self.measure_copula(found))

    def measure_copula(self, found: NoisePatches) -> Copula:
        """Distribution and correlation of the noise that was found."""
        reach = min(REACH_PX, self.config.noise_patch_px // 4)
        return fit_copula(found.pixels, reach)

    def draw_from(self, copula: Copula) -> None:
        """Make noise of that distribution from now on."""
        self.copula = CopulaNoise(copula.filters, copula.table, TABLE_END).to(self.place)

    def noise_source(self) -> NoiseGenerator | CopulaNoise:
        """What noise is drawn from when it is put on images."""
        if self.is_measured:
            return self.prepared(self.copula)
        return super().noise_source()
