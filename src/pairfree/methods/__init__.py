"""The methods by name: one file each, a literal table, no registry."""

from __future__ import annotations

from typing import Any

from pairfree.methods import (
    b2u,
    bm3d,
    cvf_sid,
    cyclegan,
    dip,
    dncnn_b,
    gan2gan,
    gcbd,
    iddp,
    iscl,
    n2c,
    n2n,
    n2s,
    n2v,
    nb2nb,
    noisy_n2n,
    quan,
    s2s,
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
}

PRESETS: dict[str, dict[str, Any]] = {
    "iscl": iscl.PRESETS,
    "cyclegan": cyclegan.PRESETS,
    "quan": quan.PRESETS,
    "uidnet": uidnet.PRESETS,
    "gan2gan": gan2gan.PRESETS,
    "gcbd": gcbd.PRESETS,
    "dncnn-b": dncnn_b.PRESETS,
    "iddp": iddp.PRESETS,
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
}

DEFAULT_NOISY_ONLY = "iddp"
"""The noisy-only method that ranks first on held-out images of BSD400 (docs/methods/iddp.md)."""
DEFAULT_UNPAIRED = "iscl"
"""The method when a clean set is given."""
