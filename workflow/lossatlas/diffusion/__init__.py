"""Anomalous diffusion of SGD: trajectories, their noise, and walkers on fractal landscapes.

Pure functions on NumPy arrays. Source: G. Chen, C. K. Qu, P. Gong, "Anomalous diffusion dynamics of
learning in deep neural networks", Neural Networks 149 (2022), arXiv:2009.10588.
"""
