"""The methods by name: one file each, a literal table, no registry."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from pairfree.methods import (
    b2u,
    bm3d,
    cvf_sid,
    cyclegan,
    dip,
    dncnn_b,
    gan2gan,
    gan2gan_short,
    gcbd,
    iddp,
    iddp_short,
    iscl,
    iscl_short,
    n2c,
    n2n,
    n2s,
    n2v,
    nb2nb,
    noisy_n2n,
    quan,
    s2s,
    shipped,
    uidnet,
)
from pairfree.methods.base import Method

METHODS: dict[str, type[Method]] = {
    "iscl": iscl.ISCL,
    "cyclegan": cyclegan.CycleGAN,
    "quan": quan.Quan,
    "uidnet": uidnet.UIDNet,
    "gan2gan": gan2gan.GAN2GAN,
    "gcbd": gcbd.GCBD,
    "dncnn-b": dncnn_b.DnCNNB,
    "iddp": iddp.IDDP,
    "n2c": n2c.N2C,
    "n2n": n2n.N2N,
    "n2v": n2v.N2V,
    "n2s": n2s.N2S,
    "nb2nb": nb2nb.Nb2Nb,
    "b2u": b2u.B2U,
    "cvf-sid": cvf_sid.CVFSID,
    "noisy-n2n": noisy_n2n.NoisyN2N,
    "dip": dip.DIP,
    "s2s": s2s.S2S,
    "bm3d": bm3d.BM3D,
    "shipped": shipped.Shipped,
}

EXTENDED: dict[str, type[Method]] = {
    "iscl": iscl_short.ShortISCL,
    "cyclegan": cyclegan.ShortCycleGAN,
    "gan2gan": gan2gan_short.ShortGAN2GAN,
    "iddp": iddp_short.ShortIDDP,
}
"""Where a preset adds to the method of the paper: the class that has what it adds.

Its settings are those of the paper's method and more, whose defaults add nothing."""

PRESETS: dict[str, dict[str, Any]] = {
    "iscl": {"cpu": iscl_short.CPU, "paper": iscl.ISCLConfig()},
    "cyclegan": cyclegan.PRESETS,
    "quan": quan.PRESETS,
    "uidnet": uidnet.PRESETS,
    "gan2gan": gan2gan_short.PRESETS,
    "gcbd": gcbd.PRESETS,
    "dncnn-b": dncnn_b.PRESETS,
    "iddp": iddp_short.PRESETS,
    "n2c": n2c.PRESETS,
    "n2n": n2n.PRESETS,
    "n2v": n2v.PRESETS,
    "n2s": n2s.PRESETS,
    "nb2nb": nb2nb.PRESETS,
    "b2u": b2u.PRESETS,
    "cvf-sid": cvf_sid.PRESETS,
    "noisy-n2n": noisy_n2n.PRESETS,
    "dip": dip.PRESETS,
    "s2s": s2s.PRESETS,
    "bm3d": bm3d.PRESETS,
    "shipped": shipped.PRESETS,
}

DEFAULT_NOISY_ONLY = "iddp"
"""The noisy-only method that ranks first on held-out images of BSD400 (docs/methods/iddp.md)."""
DEFAULT_UNPAIRED = "iscl"
"""The method when a clean set is given."""


def build_method(
    key: str,
    config: Any,
    channels: int,
    device: torch.device | str = "cpu",
    net: nn.Module | None = None,
) -> Method:
    """A method with freshly initialised networks.

    Parameters
    ----------
    key
        A key of ``METHODS``.
    config
        Its settings. Those of the extended method build that one, all others the method of the paper.
    channels
        Of the images.
    device
        Where its networks lie.
    net
        A network to train in the place of the one that the settings name, for methods that take one.
    """
    kind = METHODS[key]
    extended = EXTENDED.get(key)
    if extended is not None and isinstance(config, extended.config_type):
        kind = extended
    made: Method = kind(config, channels, device, net)  # type: ignore[call-arg]
    return made


def choose_config_type(key: str, settings: Mapping[str, Any]) -> type[Any]:
    """The type of a method's config that takes certain settings.

    Parameters
    ----------
    key
        A key of ``METHODS``.
    settings
        By name.

    Returns
    -------
    type
        That of the paper's method where it takes them all or nothing extends it, else that of the extended.
    """
    paper = METHODS[key].config_type
    if key not in EXTENDED or takes_settings(paper, settings):
        return paper
    return EXTENDED[key].config_type


def takes_settings(config_type: type[Any], settings: Mapping[str, Any]) -> bool:
    """Whether a type of config has certain settings, and their values where it says what those may be."""
    if not setting_names(config_type).issuperset(settings):
        return False
    choices: Mapping[str, tuple[str, ...]] = getattr(config_type, "choices", {})
    return all(settings[name] in choices[name] for name in choices if name in settings)


def extend_config(key: str, config: Any, settings: Mapping[str, Any]) -> Any:
    """A config that takes certain settings.

    Parameters
    ----------
    key
        A key of ``METHODS``.
    config
        Settings of the method.
    settings
        Those that are asked for, by name.

    Returns
    -------
    Any
        ``config`` where it takes them; else the same with those of the extended method, which add nothing
        yet.
    """
    kind = choose_config_type(key, settings)
    return config if isinstance(config, kind) else kind(**vars(config))


def settings_beside(key: str, stored: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a stored run, and those that only the extended method has, which it did without.

    Parameters
    ----------
    key
        The run's method, ours or another.
    stored
        Its settings by name.
    """
    if key not in EXTENDED:
        return dict(stored)
    added = setting_names(EXTENDED[key].config_type) - setting_names(METHODS[key].config_type)
    fields = dataclasses.fields(EXTENDED[key].config_type)
    return {field.name: field.default for field in fields if field.name in added} | dict(stored)


def setting_names(config_type: type[Any]) -> set[str]:
    """Names of all settings of a type of config."""
    return {field.name for field in dataclasses.fields(config_type)}


def describe_methods() -> str:
    """Which methods there are, by what they must be given, in a few sentences: the help of ``method``."""
    noisy: list[str] = []
    one_image: list[str] = []
    clean: list[str] = []
    target: list[str] = []
    for key, method in METHODS.items():
        if method.needs.clean:
            clean.append(key)
        elif method.needs.target:
            target.append(key)
        elif method.one_image:
            one_image.append(key)
        else:
            noisy.append(key)
    return (
        f"Noisy files only: {', '.join(noisy)}; {', '.join(one_image)} (each image by itself). "
        f"With `clean`: {_list_with_noise(clean)}. With `target`: {_list_with_noise(target)}. "
        "Default: that of `init`, else auto, which looks at the noise and takes what fits, or says why "
        "nothing does."
    )


def _list_with_noise(keys: list[str]) -> str:
    """Those that need images of the noise too come last."""
    with_noise = [key for key in keys if METHODS[key].needs.noise]
    without = [key for key in keys if key not in with_noise]
    return ", ".join(without) + f", and {', '.join(with_noise)} (also `noise_images`)"
