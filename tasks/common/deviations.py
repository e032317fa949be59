"""Differences to the official fine-tuning and to the paper that recipes of several tasks share."""

from __future__ import annotations

LAST_STEP = "the last step's weights predict, while the official code keeps those of the best epoch too (--keep best)"
HALF_PRECISION = "bf16 where the device computes in it, not fp16 with a loss scale (--set precision=fp16)"
RAND_AUGMENT = (
    "RandAugment with Pillow, not OpenCV: half a pixel off in shears and rotations, without the official overflows in "
    "AutoContrast and Sharpness"
)
OFFICIAL = (LAST_STEP, HALF_PRECISION)  # of every recipe of the released code

SCHEDULE = "the paper states no lowest learning rate: 1e-6 as in the released code"
AUGMENTATION = "the paper states no augmentation: crops of at least half the area and flips as in the released code"
PAPER = (SCHEDULE, AUGMENTATION)  # of every vision-language recipe of the giant
