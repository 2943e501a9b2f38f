"""Losses and scores as pure functions of arrays. Import the module of a concept: `from jaxad.losses
import mil`.
"""
