"""What the noise of images is like: level, growth with the brightness, correlation, distribution.

``level`` measures white noise in one image; ``plane_law`` adds how it grows and whether it is correlated;
``colour_law`` does so for three colours at once, in their differences, where fine texture is absent.
``smooth_areas`` cuts ``noise_patches`` out of smooth areas, which it looks for on a ``candidate_grid``, and
``noise_doubts`` asks whether it is what a method takes it for; ``copula`` measures the distribution and the
correlation of such patches; ``two_sets`` measures what a noisy set has and a clean set of other scenes lacks.
``local_moments``, ``windows`` and ``spectra`` are what they count with.

Why variance against brightness is fitted more than once
--------------------------------------------------------
Noise of counts grows with the brightness: var(n | x) = gain x + floor. Fitting that line takes pairs of
brightness and noise variance, and where those can be had differs with what is there to measure on. None of
the ways serves the others:

===========================================  =======================  =========================  =============
function                                     measures on              variance comes from        used by
===========================================  =======================  =========================  =============
``variance_line.estimate_poisson_gaussian``  one noisy image          Chen's eigenvalues of      bm3d, dip
                                                                      8 px patches, 16 bins
``variance_in_patches.measure_growth``       smooth areas of a set    each smooth patch, minus   gan2gan
                                                                      its plane
``variance_in_sets.measure_counts_law``      a noisy and a clean set  fine contrast of calm      ``two_sets``,
                                             of other scenes          blocks, minus the clean    so iscl
``two_sets.measure_difference``              the same                 none: one of three         iscl
                                                                      exponents, by likeness
``noise_doubts.growth_with_brightness``      smooth areas of a set    as ``measure_growth``      gcbd, gan2gan
``evidence.residual.fit_variance_line``      an image and its         the residual, pixel by     every report
                                             denoised version         pixel, 24 bins
===========================================  =======================  =========================  =============

- Eigenvalues need white noise, and find it under texture. Smooth patches allow any correlation, but there
  must be smooth areas, bright and dark. Sets need no smooth area at all, where the clean set says how much
  of the contrast is structure.
- The first three put their points through one estimator, ``variance_line.fit_robust_line``: least absolute
  relative residuals, because their points err to one side, up, where structure counts as noise. What is
  enough to count as growth each decides for itself (``CLEAR``, ``SURE``, ``BLACK``), for the errors of its
  points.
- ``two_sets`` fits no line: it asks which of three laws makes clean blocks look most like noisy ones, and
  takes the line of ``measure_counts_law`` where that is sure.
- ``growth_with_brightness`` only warns of dependence, of either sign. An ordinary least squares slope with
  its standard error is enough for that, and its thresholds were chosen with it.
- A residual has as many points as pixels and no structure in it, if the denoiser is good. Its errors are
  those of sample variances, 2 s^4 / n, so weighted least squares gives standard errors that can be tested
  against.

What they answer for the same noise: six smooth scenes of 512 x 512 px from 10 to 190, var = 2 x + 25, white
and correlated (Gaussian of 0.7 px), and the same with texture on half of each scene.

=============================  ===========  ==========  ===============  ====================
gain (true: 2)                 white        correlated  white, textured  correlated, textured
=============================  ===========  ==========  ===============  ====================
``estimate_poisson_gaussian``  2.00 ± 0.04  0.19        1.98 ± 0.05      0.18
``measure_growth``             2.13         2.20        2.24             2.26
``measure_counts_law``         1.91         1.85        none, not sure   none, not sure
``fit_variance_line``          1.99         1.99        1.99             2.00
=============================  ===========  ==========  ===============  ====================

That of ``measure_counts_law`` is over the share of the noise that is fine contrast, 0.76 and 0.36 here; the
last row has the residuals of an oracle.
"""
