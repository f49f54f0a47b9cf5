"""DDM*: a face and its residual, each in a branch of its own (AG-FAS, Table I).

DDM (Zhang et al. 2024, "Modeling Spoof Noise by De-spoofing Diffusion and its Application in Face Anti-spoofing",
arXiv 2401.08275) trains two diffusion models, one on attacks and one on live faces. A face is encoded to noise by the
first and decoded by the second, both by deterministic DDIM, and the difference to the face, its "spoof noise", goes
with the RGB picture into a two-stream depth network. No code was published; its sizes, fusion and steps are not known
here, so there is no detector `ddm`.

AG-FAS measures it again in two forms. DDM* takes SSDG's losses and AG-FAS's own backbone, "two separate branches for
the input image and the residual". No more is said; that is what AG-FAS's Table V calls dual branch, with another cue.
"""

from __future__ import annotations

from typing import ClassVar

from oanet.detectors.dual_branch import DualBranch


class DDMStar(DualBranch):
    """`DualBranch` under the name of Table I: with what the papers tell, the network is the same.

    Two ViT-B/16, 1536 -> 512 -> 2: 172,385,282 parameters. What tells the two rows apart is the cue, and that is an
    option of the experiment, not of the network. DDM's own pair of diffusion models is not built here. What comes
    nearest among the cue sources is `anoddpm`: a pixel diffusion model of live faces without identity, which adds
    noise to the face where DDM encodes it, and samples where DDM decodes.
    """

    name: ClassVar[str] = "ddm_star"
