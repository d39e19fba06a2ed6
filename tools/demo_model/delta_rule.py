"""The gated delta rule, chunk by chunk.

Per head, S is (key dim, value dim) and token t does
    S = exp(g_t) S;  d = beta_t (v_t - S^T k_t);  S += k_t d^T;  o_t = S^T q_t.

In a chunk of C tokens, with c the inclusive cumulative sum of g and S the state before it:
    E_ij = exp(c_i - c_j) for j <= i, else 0
    (I + strict_lower(diag(beta) (K K^T . E))) [U | W] = [diag(beta) V | diag(beta e^c) K]
    D = U - W S                                  the corrections d of all C tokens
    O = diag(e^c) Q S + (Q K^T . E) D
    S = e^{c_C} S + (diag(e^{c_C - c}) K)^T D
Only D and S go through the chunks one after the other.
"""

import torch


def chunk_delta_rule(q, k, v, g, beta, chunk):
    """q, k (B,H,T,K), v (B,H,T,V), g and beta (B,H,T) -> o (B,H,T,V). T is a multiple of chunk."""
    batch, heads, time, dim_k = k.shape
    dim_v, n = v.shape[-1], time // chunk
    q, k, v = (y.reshape(batch * heads, n, chunk, -1) for y in (q, k, v))
    g, beta = (y.reshape(batch * heads, n, chunk) for y in (g, beta))

    c = g.cumsum(-1)
    later = torch.ones(chunk, chunk, dtype=torch.bool).triu(1)
    # Masked before exp: above the diagonal the difference is positive and would overflow.
    decay = (c[..., :, None] - c[..., None, :]).masked_fill(later, -torch.inf).exp()
    grow = c.exp()[..., None]
    a = (k @ k.mT) * decay * beta[..., None]
    right = torch.cat([v * beta[..., None], k * (beta[..., None] * grow)], -1)
    # unitriangular: the solve takes the diagonal as 1 and reads only what is below it.
    u, w = torch.linalg.solve_triangular(a, right, upper=False, unitriangular=True).split([dim_v, dim_k], -1)
    total = c[..., -1:]                                    # (BH, n, 1)
    k_end = (k * (total - c).exp()[..., None]).mT
    keep = total.exp()[..., None]

    state = q.new_zeros(batch * heads, dim_k, dim_v)
    states, corrections = [], []
    for u_n, w_n, k_n, keep_n in zip(u.unbind(1), w.unbind(1), k_end.unbind(1), keep.unbind(1)):
        states.append(state)
        d = torch.baddbmm(u_n, w_n, state, alpha=-1)
        corrections.append(d)
        state = torch.baddbmm(state * keep_n, k_n, d)
    state, d = torch.stack(states, 1), torch.stack(corrections, 1)
    o = (q * grow) @ state + ((q @ k.mT) * decay) @ d
    return o.reshape(batch, heads, time, dim_v)


def step_delta_rule(q, k, v, g, beta):
    """The same, token by token: the definition that the chunked form is tested against."""
    state, out = torch.zeros_like(k[:, :, 0, :, None] * v[:, :, 0, None, :]), []
    for t in range(q.shape[2]):
        state = state * g[:, :, t, None, None].exp()
        d = beta[:, :, t, None] * (v[:, :, t] - torch.einsum("bhk,bhkv->bhv", k[:, :, t], state))
        state = state + k[:, :, t, :, None] * d[:, :, None]
        out.append(torch.einsum("bhk,bhkv->bhv", q[:, :, t], state))
    return torch.stack(out, 2)
