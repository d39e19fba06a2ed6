"""Muon (Jordan et al., 2024): momentum, made orthogonal by a Newton-Schulz iteration.

For a matrix with gradient G:  M = m M + G;  step = -rate * sqrt(max(1, rows/columns)) * O,
O ~ U V^T of the singular value decomposition of G + m M. Matrices of one shape are stacked,
and the stack is shared out among the ranks.
"""

import torch
import torch.distributed as dist


def orthogonalize(x, steps=5):
    """x: (n, rows, columns). Quintic iteration, coefficients of the paper."""
    wide = x.shape[1] <= x.shape[2]
    x = x if wide else x.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x if wide else x.mT


class Muon:
    def __init__(self, parameters, momentum=0.95):
        self.momentum = momentum
        shapes = {}
        for p in parameters:
            shapes.setdefault(tuple(p.shape), []).append(p)
        self.groups = [group for _, group in sorted(shapes.items())]
        self.buffers = [torch.zeros(len(g), *g[0].shape) for g in self.groups]

    @torch.no_grad()
    def step(self, rate, rank, ranks):
        for group, buffer in zip(self.groups, self.buffers):
            grad = torch.stack([p.grad for p in group])
            buffer.mul_(self.momentum).add_(grad)
            wanted = grad + self.momentum * buffer
            share = -(-len(group) // ranks)
            mine = orthogonalize(wanted[rank * share:(rank + 1) * share])
            padded = torch.zeros(share, *mine.shape[1:])
            padded[:len(mine)] = mine
            parts = [torch.empty_like(padded) for _ in range(ranks)]
            dist.all_gather(parts, padded)
            scale = rate * max(1.0, buffer.shape[1] / buffer.shape[2]) ** 0.5
            for p, step in zip(group, torch.cat(parts)):
                p.sub_(step, alpha=scale)
