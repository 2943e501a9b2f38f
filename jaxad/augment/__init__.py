"""Augmentations and negatives as pure functions of keys and images: `from jaxad.augment import
medmix`.
"""
