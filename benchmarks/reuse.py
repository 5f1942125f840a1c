"""What GAN2GAN's generative step costs when what its critic steps see is made once, and when made anew.

    python benchmarks/reuse.py [--batch 64] [--steps 3] [--out benchmarks/results/reuse.json]

What they see: the noise and the estimates of the five critic steps. Networks of the `paper` preset, 64 px
patches of flat noise. Both forms do every step from the same weights, in turn, and the losses that they log
are compared. The literal form is written here, from Algorithm 1.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor

from pairfree.data.patches import Batch, PatchPool, TrainingData
from pairfree.engine.run import environment
from pairfree.methods import PRESETS
from pairfree.methods.base import At, set_rate
from pairfree.methods.gan2gan import GAN2GAN
from pairfree.methods.parts.imitation import GENERATIVE

SIGMA, IMAGES, SIDE_PX = 0.1, 8, 256
ALLOWED = 1e-6


def flat_noise() -> TrainingData:
    rng = np.random.default_rng(0)
    return TrainingData(
        PatchPool([rng.normal(0.5, SIGMA, (1, SIDE_PX, SIDE_PX)) for _ in range(IMAGES)], "cpu", 64)
    )


def literal_step(method: GAN2GAN, batch: Batch, at: At) -> dict[str, Tensor]:
    """Algorithm 1, lines 4 to 11, as printed.

    Every critic step calls g1 and g2, and every backward pass goes through all it can reach.
    """
    config = method.config
    z = method.gather_upright(len(batch.noisy), at)
    noise, r = method.noise_patches(len(z), at), method.latent(len(z), "latent", at)
    critics, generators = method.optimizers["f1, f2"], method.optimizers["g1, g2, g3"]
    for _ in range(config.critic_steps):
        made = method.g1(r)
        real = method.f1(noise).mean() + method.f2(z).mean()
        judged = real - method.f1(made).mean() - method.f2(method.g2(z) + made).mean()
        critics.zero_grad()
        (-judged).backward()
        critics.step()
        with torch.no_grad():
            for net in method.critics.values():
                for parameter in net.parameters():
                    parameter.clamp_(-config.critic_clip, config.critic_clip)
    made, rough = method.g1(r), method.g2(z)
    loss = -config.alpha * method.f1(made).mean() - config.beta * method.f2(rough + made).mean()
    loss = loss + config.gamma * (z - method.g3(rough)).abs().mean()
    set_rate(generators, config.generator_lr * min(1.0, 1.5 * (1.0 - at.progress)))
    generators.zero_grad()
    loss.backward()
    generators.step()
    return {"loss": loss.detach(), "critics": judged.detach()}


def compare(batch_size: int, steps: int) -> dict[str, float]:
    data = flat_noise()
    torch.manual_seed(0)
    ours = GAN2GAN(
        replace(PRESETS["gan2gan"]["paper"], generative_batch=batch_size, batch_size=batch_size), 1
    )
    ours.prepare(data, 0)
    literal = copy.deepcopy(ours)
    seconds: dict[str, list[float]] = {"reuse": [], "literal": []}
    apart = 0.0
    for step in range(steps + 1):
        at, batch = At(0, step, GENERATIVE, step, 1000), data.batch(0, step, batch_size)
        logged = []
        for name, method, act in (
            ("reuse", ours, GAN2GAN.step),
            ("literal", literal, literal_step),
        ):
            began = time.perf_counter()
            logged.append(act(method, batch, at))
            if step:  # the first one warms up
                seconds[name].append(time.perf_counter() - began)
        apart = max(
            apart, *(abs(float(logged[0][key] - logged[1][key])) for key in ("loss", "critics"))
        )
        literal.load_tensors({key: value.clone() for key, value in ours.tensors().items()})
        print(
            f"step {step}: "
            + ", ".join(f"{name} {each[-1]:.2f} s" for name, each in seconds.items() if each),
            flush=True,
        )
    if apart > ALLOWED:
        raise SystemExit(
            f"the two forms differ by {apart:.1e} in a loss: reuse changed the mathematics"
        )
    found = {f"{name}, seconds a step": round(median(each), 3) for name, each in seconds.items()}
    return found | {"largest difference of a loss": apart, "batch": batch_size, "steps": steps}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "reuse.json"
    )
    given = parser.parse_args()
    found = compare(given.batch, given.steps)
    given.out.write_text(
        json.dumps({**found, "environment": environment(torch.device("cpu"), "float32")}, indent=1)
        + "\n",
        encoding="utf-8",
    )
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
